// Everything that the board shows, from the moments so far.
import { StepFloor } from "./floor.js";
import { BoardRequest } from "./request.js";

const KEPT = 60; // seconds that the board looks back
const MOST_ENDED = 500; // requests that have ended
const SHORTEST = 5; // seconds that the lanes show
const LONGEST = 30;
const PERIOD = 10; // seconds over which numbers are taken
const MARKED = 1; // seconds in which the mark of a block fades

export class BoardView {
  /** `floor` knows the rates that were reached before. */
  constructor(floor = new StepFloor()) {
    this.floor = floor;
    this.requests = new Map(); // by id
    this.pinned = null; // id of a request that is kept although it has ended long ago
    this.moments = [];
    this.blocks = [];
    this.shared = new Set();
    this.roots = new Map();
    this.marks = new Map(); // of blocks, by their place: {kind, time}
    this.stats = {};
    this.losses = [];
    this.now = 0;
  }

  take(moment) {
    this.now = moment.time;
    this.begin ??= moment.time;
    this.stats = moment.stats;
    Object.assign(this, { numBlocks: moment.num_blocks, blockSize: moment.block_size });
    if (moment.blocks) this.setBlocks(moment);
    this.#mark(moment);
    moment.arrived.forEach((facts) => this.requests.set(facts.id, new BoardRequest(facts, this.now)));
    this.#advance(moment);
    moment.ended.forEach((ended) => this.requests.get(ended.id)?.finish(ended));
    this.moments.push(moment);
    this.floor.record(moment);
    this.#forget();
  }

  setBlocks({ blocks, shared, roots }) {
    this.blocks = blocks;
    this.shared = new Set(shared);
    this.roots = new Map(roots);
  }

  #advance(moment) {
    const working = new Set(moment.work.map((work) => work.id));
    const preempted = new Set(moment.preempted);
    moment.work.forEach((work) => this.requests.get(work.id)?.work(work));
    if (moment.lost_workers) this.losses.push(this.now);
    for (const request of this.requests.values()) {
      if (!request.isLive) continue;
      if (moment.lost_workers && request.hasBegun) request.isRestarting = true;
      if (!working.has(request.id)) request.wait(this.now, preempted.has(request.id), moment.steps > 0);
    }
  }

  #mark({ hits, evictions }) {
    hits.forEach((cell) => this.marks.set(cell, { kind: "hit", time: this.now }));
    evictions.forEach((cell) => this.marks.set(cell, { kind: "evicted", time: this.now }));
    for (const [cell, { time }] of this.marks) if (time < this.now - MARKED) this.marks.delete(cell);
  }

  #forget() {
    const oldest = this.now - KEPT;
    while (this.moments.length && this.moments[0].time < oldest) this.moments.shift();
    const ended = [...this.requests.values()].filter((one) => !one.isLive && one.id !== this.pinned);
    ended.forEach((one, place) => {
      if (one.end < oldest || place < ended.length - MOST_ENDED) this.requests.delete(one.id);
    });
    this.losses = this.losses.filter((time) => time > oldest);
  }

  /** At most `most` requests that had not ended at `since`, the newest first. Where there are more, running
   * ones come before waiting ones, and these before those that have ended. */
  shown(most, since = -Infinity) {
    const rank = (one) => (one.id === this.pinned ? 3 : !one.isLive ? 0 : one.hasBegun ? 2 : 1);
    const all = [...this.requests.values()].filter((one) => (one.end ?? Infinity) > since);
    all.sort((a, b) => rank(b) - rank(a) || b.id - a.id);
    return all.slice(0, most).sort((a, b) => b.id - a.id);
  }

  /** How visible a block's mark still is: from 1 to 0. */
  visibility({ time }) {
    return Math.max(0, 1 - (this.now - time) / MARKED);
  }

  /** Seconds that the lanes show. */
  get window() {
    return Math.min(LONGEST, Math.max(SHORTEST, Math.ceil(this.now - this.begin)));
  }

  /** Numbers of the last seconds. */
  get numbers() {
    const recent = this.moments.filter((moment) => moment.time > this.now - PERIOD);
    const sum = (name) => recent.reduce((total, moment) => total + moment[name], 0);
    const seconds = Math.max(0.1, Math.min(PERIOD, this.now - (recent[0]?.time ?? this.now) + 0.1));
    const first = recent.flatMap((moment) => moment.first_tokens).sort((a, b) => a - b);
    const gaps = recent.filter((moment) => moment.gaps.length);
    const { stats } = this;
    return {
      speed: sum("tokens") / seconds,
      step: sum("steps") ? sum("step_seconds") / sum("steps") : null,
      floor: this.#meanFloor(recent),
      longest: Math.max(0, ...recent.map((moment) => moment.longest_step)) || null,
      firstHalf: at(first, 0.5), firstMost: at(first, 0.95),
      gapHalf: at(gaps.map((moment) => moment.gaps[0]).sort((a, b) => a - b), 0.5),
      gapMost: at(gaps.map((moment) => moment.gaps[1]).sort((a, b) => a - b), 0.95),
      used: this.numBlocks ? stats.used_blocks / this.numBlocks : null,
      hits: stats.prefix_queries ? stats.prefix_hits / stats.prefix_queries : null,
      kept: stats.drafted ? stats.accepted / stats.drafted : null,
    };
  }

  #meanFloor(moments) {
    const known = moments.filter((moment) => this.floor.of(moment) !== null);
    const steps = known.reduce((total, moment) => total + moment.steps, 0);
    return steps ? known.reduce((total, moment) => total + this.floor.of(moment), 0) / steps : null;
  }
}

const at = (sorted, share) => (sorted.length ? sorted[Math.floor((sorted.length - 1) * share)] : null);
