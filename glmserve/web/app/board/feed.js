// The stream of /board/events, and what is known of the engine from it.
import { ServerError } from "../api.js";
import { eventsOf } from "../events.js";
import { keptValue } from "../kept.js";
import { signal } from "../lib.js";
import { apiKey } from "../key.js";

const AGAIN = 1000; // milliseconds until the server is asked again
const KEPT = 60; // seconds that the board looks back
const SHORTEST = 5; // seconds that the lanes show
const LONGEST = 30;
const PERIOD = 10; // seconds over which numbers are taken

/** status: connecting, live, refused; now: the server's clock at the last moment. */
export const board = signal({ status: "connecting" });
export const adminKey = signal(keptValue.read(sessionStorage, "admin_key") ?? "");

export function setAdminKey(key) {
  keptValue.write(sessionStorage, "admin_key", key || null);
  adminKey.value = key;
}

/** Read until `stop` is aborted. */
export async function followBoard(stop) {
  while (!stop.aborted) {
    const view = new BoardView();
    try {
      await readOnce(view, stop);
    } catch (error) {
      const isRefused = error instanceof ServerError && [401, 403].includes(error.status);
      if (isRefused) return void (board.value = { status: "refused", reason: error.message });
    }
    if (!stop.aborted) await new Promise((go) => setTimeout(go, AGAIN));
  }
}

async function readOnce(view, stop) {
  const key = adminKey.value || apiKey.value;
  const headers = key ? { Authorization: `Bearer ${key}` } : {};
  const response = await fetch("board/events", { headers, signal: stop, cache: "no-store" });
  if (!response.ok) {
    throw new ServerError(response.status, (await response.json().catch(() => null))?.error);
  }
  for await (const { data } of eventsOf(response.body)) {
    view.take(JSON.parse(data));
    board.value = { status: "live", view, now: view.now };
  }
}

/** Everything that the board shows. */
export class BoardView {
  constructor() {
    this.requests = new Map(); // by id: facts, state, spans
    this.moments = [];
    this.blocks = [];
    this.stats = {};
    this.losses = [];
    this.now = 0;
  }

  take(moment) {
    this.now = moment.time;
    this.begin ??= moment.time;
    this.stats = moment.stats;
    if (moment.blocks) this.blocks = moment.blocks;
    Object.assign(this, { numBlocks: moment.num_blocks, blockSize: moment.block_size });
    moment.arrived.forEach((facts) => this.#arrive(facts));
    const working = new Set(moment.work.map((work) => work.id));
    for (const request of this.requests.values()) {
      if (request.end === undefined && request.begun && !working.has(request.id)) this.#span(request, "paused");
    }
    moment.work.forEach((work) => this.#work(work));
    moment.ended.forEach((ended) => this.#end(ended));
    if (moment.lost_workers) this.losses.push(this.now);
    this.moments.push(moment);
    this.#forget();
  }

  #arrive(facts) {
    const known = { output: 0, prefill: 0, cached: 0, recomputed: 0, spans: [], begun: false };
    this.requests.set(facts.id, { ...known, ...facts });
  }

  #work(work) {
    const request = this.requests.get(work.id);
    if (!request) return;
    request.begun = true;
    request.cached ||= work.cached;
    request.prefill += work.prefill;
    request.recomputed += work.recomputed;
    request.output += work.decoded;
    this.#span(request, work.recomputed ? "recompute" : work.prefill ? "prefill" : "decode");
  }

  #end({ id, reason, output_tokens: output }) {
    const request = this.requests.get(id);
    if (request) Object.assign(request, { end: this.now, reason, output });
  }

  /** Spans follow each other: [kind, end]. */
  #span(request, kind) {
    const last = request.spans[request.spans.length - 1];
    if (!last && this.now - request.arrival > 0.15) request.spans.push(["queue", this.now - 0.1]);
    if (request.spans[request.spans.length - 1]?.[0] === kind) request.spans[request.spans.length - 1][1] = this.now;
    else request.spans.push([kind, this.now]);
  }

  #forget() {
    const oldest = this.now - KEPT;
    while (this.moments.length && this.moments[0].time < oldest) this.moments.shift();
    for (const [id, request] of this.requests) if (request.end < oldest) this.requests.delete(id);
    this.losses = this.losses.filter((time) => time > oldest);
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
      longest: Math.max(0, ...recent.map((moment) => moment.longest_step)) || null,
      firstHalf: at(first, 0.5), firstMost: at(first, 0.95),
      gapHalf: at(gaps.map((moment) => moment.gaps[0]).sort((a, b) => a - b), 0.5),
      gapMost: at(gaps.map((moment) => moment.gaps[1]).sort((a, b) => a - b), 0.95),
      used: this.numBlocks ? stats.used_blocks / this.numBlocks : null,
      hits: stats.prefix_queries ? stats.prefix_hits / stats.prefix_queries : null,
      kept: stats.drafted ? stats.accepted / stats.drafted : null,
    };
  }
}

const at = (sorted, share) => (sorted.length ? sorted[Math.floor((sorted.length - 1) * share)] : null);
