// A file of `glmserve serve --record`, as moments of the board. Prompts in it are not looked at.
import { BoardView } from "./feed.js";
import { decode } from "./msgpack.js";

const MAGIC = "glmserve recording 2\n";
const INTERVAL = 0.1; // seconds of a moment
const STEP = 0.02; // seconds between steps behind the last time that is known
const MOST_CELLS = 4096;

/** The moments of a recording. Raises TypeError for other files. */
export function readRecording(buffer) {
  const bytes = new Uint8Array(buffer);
  const begin = new TextEncoder().encode(MAGIC);
  if (begin.some((byte, place) => byte !== bytes[place])) throw new TypeError("no recording");
  const events = [...framesOf(bytes.subarray(begin.length))].map(decode);
  const [, , , , info] = events.shift() ?? [];
  if (!info) throw new TypeError("no beginning");
  return new Recording(timed(events), info.limits);
}

/** Up to the first frame that is not whole: the server may have been killed. */
function* framesOf(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let at = 0; at + 4 <= bytes.length;) {
    const end = at + 4 + view.getUint32(at, true);
    if (end > bytes.length) return;
    yield bytes.subarray(at + 4, end);
    at = end;
  }
}

/** Events as [time, event]. A recording has the times of arrivals and ends; the steps between two of
 * them are spread evenly. */
function timed(events) {
  const all = [];
  let steps = [];
  let last = 0;
  const spread = (until) => {
    steps.forEach((event, place) => all.push([last + ((place + 1) * (until - last)) / (steps.length + 1), event]));
    steps = [];
  };
  for (const event of events) {
    if (event[0] === "step") steps.push(event);
    if (!["arrival", "end", "loss"].includes(event[0])) continue;
    spread(event[1]);
    last = event[1];
    all.push([last, event]);
  }
  spread(last + STEP * (steps.length + 1));
  return all;
}

/** Moments in order, and what the board shows at one of them. */
class Recording {
  constructor(events, limits) {
    this.limits = limits;
    this.reached = new Map();
    this.stats = { running: 0, waiting: 0, preemptions: 0, prefix_hits: 0, prefix_queries: 0 };
    this.moments = [this.#empty(INTERVAL)];
    events.forEach(([time, event]) => this.#take(time, event));
    this.moments.forEach((moment) => { moment.work = [...moment.works.values()]; });
  }

  get seconds() {
    return this.moments[this.moments.length - 1].time;
  }

  /** The board at the end of moment `index`. */
  viewAt(index) {
    const view = new BoardView();
    const tables = new Map();
    for (const moment of this.moments.slice(0, index + 1)) {
      view.take(moment);
      moment.tables.forEach((table, id) => tables.set(id, table));
      moment.ended.forEach(({ id }) => tables.delete(id));
    }
    view.blocks = this.#owners(tables);
    const live = [...view.requests.values()].filter((one) => one.end === undefined);
    const running = live.filter((one) => one.begun).length;
    const used = new Set([...tables.values()].flatMap((table) => [...table])).size;
    view.stats = { ...view.stats, running, waiting: live.length - running, used_blocks: used };
    return view;
  }

  #empty(time) {
    const { num_blocks, block_size } = this.limits;
    return {
      time, steps: 0, step_seconds: 0, longest_step: 0, tokens: 0, arrived: [], works: new Map(), ended: [],
      lost_workers: 0, first_tokens: [], gaps: [], tables: new Map(), num_blocks, block_size,
      stats: { ...this.stats },
    };
  }

  #take(time, [kind, ...fields]) {
    while (this.seconds < time) this.moments.push(this.#empty(this.seconds + INTERVAL));
    const moment = this.moments[this.moments.length - 1];
    if (kind === "arrival") this.#arrive(moment, fields);
    if (kind === "end") moment.ended.push({ id: fields[1], reason: fields[2], output_tokens: fields[3] });
    if (kind === "loss") moment.lost_workers += 1;
    if (kind === "step") this.#step(moment, fields[1], time);
    moment.stats = { ...this.stats };
  }

  #arrive(moment, [time, id, tenant, priority, , prompt, , , , , adapter = 0]) {
    moment.arrived.push({
      id, arrival: time, tenant, priority, prompt_tokens: prompt.length, adapter_id: adapter,
    });
    this.stats.prefix_queries += prompt.length;
  }

  #step(moment, sequences, time) {
    const seconds = Math.max(0, time - (this.lastStep ?? time));
    this.lastStep = time;
    moment.steps += 1;
    moment.step_seconds += seconds;
    moment.longest_step = Math.max(moment.longest_step, seconds);
    for (const [id, tokens, start, table, sampling, , , , drafts = []] of sequences) {
      const work = moment.works.get(id) ?? { id, prefill: 0, recomputed: 0, decoded: 0, cached: 0 };
      moment.works.set(id, work);
      const before = this.reached.get(id);
      if (before === undefined) { work.cached = start; this.stats.prefix_hits += start; }
      else if (start < before - drafts.length - 1) this.stats.preemptions += 1;
      const reached = before ?? start;
      if (sampling && tokens.length === 1 + drafts.length) work.decoded += 1;
      else {
        const again = Math.min(tokens.length, Math.max(0, reached - start));
        work.recomputed += again;
        work.prefill += tokens.length - again;
      }
      if (sampling) moment.tokens += 1;
      this.reached.set(id, Math.max(reached, start + tokens.length));
      moment.tables.set(id, new Int32Array(table.slice().buffer));
    }
  }

  #owners(tables) {
    const every = Math.ceil(this.limits.num_blocks / MOST_CELLS);
    const owners = new Array(Math.ceil(this.limits.num_blocks / every)).fill(-1);
    tables.forEach((table, id) => table.forEach((block) => {
      if (block % every === 0) owners[block / every] = id;
    }));
    return owners;
  }
}
