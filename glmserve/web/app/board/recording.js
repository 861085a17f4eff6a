// A recording as the moments of the board, and the board at any of them.
import { readFile } from "./file.js";
import { StepFloor } from "./floor.js";
import { BoardView } from "./view.js";

const INTERVAL = 0.1; // seconds of a moment
const MOST_CELLS = 4096;

/** Raises TypeError if the bytes are no recording. */
export function readRecording(buffer) {
  return new Recording(readFile(buffer));
}

/** Moments in order, and what the board shows at one of them. */
class Recording {
  constructor({ info, isExact, events }) {
    this.info = info;
    this.isExact = isExact;
    this.cellBlocks = Math.ceil(info.limits.num_blocks / MOST_CELLS);
    this.known = new Map(); // by request: tokens that were computed, and its last moment
    this.arrivals = new Map(); // seconds, by request
    this.lastTokens = new Map(); // seconds, by request
    this.stats = { running: 0, waiting: 0, preemptions: 0, prefix_hits: 0, prefix_queries: 0, evictions: 0 };
    this.moments = [this.#empty(INTERVAL)];
    events.forEach(([time, event, seconds]) => this.#take(time, event, seconds));
    this.moments.forEach((moment) => {
      moment.work = [...moment.works.values()];
      moment.gaps = percentiles(moment.gaps);
    });
    this.floor = new StepFloor();
    this.moments.forEach((moment) => this.floor.record(moment));
  }

  get seconds() {
    return this.moments[this.moments.length - 1].time;
  }

  /** The board at the end of moment `index`. The one before it is continued where that is possible. */
  viewAt(index) {
    if (!this.shown || this.shown.index > index) {
      this.shown = { index: -1, view: new BoardView(this.floor), tables: new Map() };
    }
    const { view, tables } = this.shown;
    for (const moment of this.moments.slice(this.shown.index + 1, index + 1)) {
      view.take(moment);
      moment.tables.forEach((table, id) => tables.set(id, table));
      [...moment.preempted, ...moment.ended.map(({ id }) => id)].forEach((id) => tables.delete(id));
      if (moment.lost_workers) tables.clear();
    }
    this.shown.index = index;
    view.setBlocks(this.#blocks(tables));
    const live = [...view.requests.values()].filter((one) => one.isLive);
    const running = live.filter((one) => one.hasBegun).length;
    const used = new Set([...tables.values()].flatMap((table) => [...table])).size;
    view.stats = { ...view.stats, running, waiting: live.length - running, used_blocks: used };
    return view;
  }

  #empty(time) {
    const { limits, weight_bytes, kv_cache_bytes } = this.info;
    const { num_blocks, block_size } = limits;
    return {
      time, steps: 0, step_seconds: 0, longest_step: 0, costs: [], tokens: 0, arrived: [], works: new Map(),
      ended: [], preempted: [], lost_workers: 0, first_tokens: [], gaps: [], tables: new Map(), hits: [],
      evictions: [], num_blocks, block_size, weight_bytes, stats: { ...this.stats },
      token_bytes: kv_cache_bytes / (num_blocks * block_size),
    };
  }

  #take(time, [kind, ...fields], seconds) {
    while (this.seconds < time) this.moments.push(this.#empty(this.seconds + INTERVAL));
    const moment = this.moments[this.moments.length - 1];
    if (kind === "arrival") this.#arrive(moment, fields);
    if (kind === "end") moment.ended.push({ time, id: fields[1], reason: fields[2], output_tokens: fields[3] });
    if (kind === "loss") moment.lost_workers += 1;
    if (kind === "evictions") this.#evict(moment, numbers(fields[0]));
    if (kind === "step") this.#step(moment, fields[1], time, seconds);
    moment.stats = { ...this.stats };
  }

  #arrive(moment, [time, id, tenant, priority, , prompt, , , , , adapter = 0]) {
    moment.arrived.push({
      id, arrival: time, tenant, priority, prompt_tokens: prompt.length, adapter_id: adapter,
    });
    this.stats.prefix_queries += prompt.length;
    this.arrivals.set(id, time);
  }

  #evict(moment, blocks) {
    this.stats.evictions += blocks.length;
    moment.evictions.push(...this.#cells(blocks));
  }

  #step(moment, sequences, time, seconds) {
    moment.steps += 1;
    moment.step_seconds += seconds;
    moment.longest_step = Math.max(moment.longest_step, seconds);
    let rows = 0;
    let context = 0;
    for (const [id, tokens, start, table, sampling, , , , drafts = []] of sequences) {
      const blocks = numbers(table);
      const before = this.known.get(id);
      const isAgain = before !== undefined && start < before.reached;
      if (before === undefined || isAgain) this.#begin(moment, blocks, start, before);
      const work = moment.works.get(id) ?? newWork(id, time - seconds);
      moment.works.set(id, work);
      if (before === undefined) work.cached = start;
      count(work, { tokens, start, isDecode: sampling && tokens.length === 1 + drafts.length }, before?.reached ?? start, time);
      if (sampling) this.#token(moment, id, time);
      rows += tokens.length;
      context += start + tokens.length;
      const reached = Math.max(before?.reached ?? 0, start + tokens.length - drafts.length);
      this.known.set(id, { id, reached, last: this.moments.length - 1 });
      moment.tables.set(id, blocks);
    }
    if (this.isExact) moment.costs.push([seconds, rows, context]);
  }

  #token(moment, id, time) {
    moment.tokens += 1;
    const last = this.lastTokens.get(id);
    this.lastTokens.set(id, time);
    if (!this.isExact) return;
    if (last === undefined) moment.first_tokens.push(time - this.arrivals.get(id));
    else moment.gaps.push(time - last);
  }

  /** A request has got blocks: for the first time, or again after it was preempted or lost its worker. */
  #begin(moment, blocks, start, before) {
    moment.hits.push(...this.#cells(blocks.subarray(0, start / this.info.limits.block_size)));
    if (before === undefined) this.stats.prefix_hits += start;
    else {
      const since = this.moments.slice(before.last);
      since.slice(1, -1).forEach((one) => one.preempted.push(before.id));
      if (!since.some((one) => one.lost_workers)) this.stats.preemptions += 1;
    }
  }

  /** What the map shows of these blocks. */
  #cells(blocks) {
    return [...blocks].filter((block) => block % this.cellBlocks === 0).map((block) => block / this.cellBlocks);
  }

  #blocks(tables) {
    const blocks = new Array(Math.ceil(this.info.limits.num_blocks / this.cellBlocks)).fill(-1);
    const shared = new Set();
    tables.forEach((table, id) => this.#cells(table).forEach((cell) => {
      if (blocks[cell] !== -1) shared.add(cell);
      blocks[cell] = id;
    }));
    return { blocks, shared, roots: [...tables].map(([id, table]) => [id, table[0]]) };
  }
}

/** The middle one and the 95th percentile. */
function percentiles(gaps) {
  const sorted = gaps.sort((a, b) => a - b);
  return sorted.length ? [0.5, 0.95].map((share) => sorted[Math.floor(sorted.length * share)]) : [];
}

const numbers = (bytes) => new Int32Array(bytes.slice().buffer);

const newWork = (id, begin) => ({ id, begin, end: 0, prefill: 0, prefilled: 0, recomputed: 0, decoded: 0, cached: 0 });

/** Count what a step that ended at `time` computed for a request; `reached`: its tokens that were computed. */
function count(work, { tokens, start, isDecode }, reached, time) {
  work.end = time;
  if (isDecode) return void (work.decoded += 1);
  const again = Math.min(tokens.length, Math.max(0, reached - start));
  work.recomputed += again;
  work.prefill += tokens.length - again;
  work.prefilled = time;
}
