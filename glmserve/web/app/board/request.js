// A request on the board: what is known of it, and its phases one after another.

const MOST_SPANS = 200;
const WAITING = new Set(["queue", "unseen", "paused", "preempted", "restart"]);

export class BoardRequest {
  /** `facts` are RequestFacts of the server. */
  constructor(facts, now) {
    Object.assign(this, facts, { output: 0, prefill: 0, cached: 0, recomputed: 0, preemptions: 0 });
    this.hasBegun = typeof facts.begun === "number";
    this.isRestarting = false;
    this.spans = []; // {kind, begin, end, tokens}, each begins where the one before it ends
    this.#add("queue", facts.begun ?? now);
    if (this.hasBegun) this.#add("unseen", now);
  }

  get isLive() {
    return this.end === undefined;
  }

  /** What it does now, or did last. */
  get kind() {
    return this.spans[this.spans.length - 1].kind;
  }

  /** It was in steps. */
  work(work) {
    const isFirst = !this.hasBegun;
    const last = this.spans[this.spans.length - 1];
    if (WAITING.has(last.kind)) last.end = Math.max(last.begin, work.begin);
    this.hasBegun = true;
    this.isRestarting = false;
    this.cached ||= work.cached;
    this.prefill += work.prefill;
    this.recomputed += work.recomputed;
    this.output += work.decoded;
    this.#addPrompt(work, isFirst);
    if (work.decoded) this.#add("decode", work.end, work.decoded);
  }

  /** It was in no step until `now`. `isPreempted`: it has lost its blocks; `hasSteps`: others had steps. */
  wait(now, isPreempted, hasSteps) {
    if (!this.hasBegun) this.#add("queue", now);
    else if (this.isRestarting) this.#add("restart", now);
    else if (isPreempted) this.#add("preempted", now);
    else if (hasSteps) this.#add("paused", now);
  }

  finish({ time, reason, output_tokens: output }) {
    Object.assign(this, { end: time, reason, output });
    this.spans[this.spans.length - 1].end = Math.max(time, this.spans[this.spans.length - 1].begin);
  }

  /** Tokens before the decodes. A request that begins and is preempted in one interval has both kinds. */
  #addPrompt({ prefill, recomputed, begin, prefilled }, isFirst) {
    const all = prefill + recomputed;
    if (!recomputed || isFirst) {
      if (prefill) this.#add("prefill", begin + ((prefilled - begin) * prefill) / all, prefill);
      if (recomputed) this.#add("recompute", prefilled, recomputed);
    } else this.#add("recompute", prefilled, all);
  }

  #add(kind, end, tokens = 0) {
    const last = this.spans[this.spans.length - 1];
    if (last?.kind === kind) {
      last.end = Math.max(last.end, end);
      last.tokens += tokens;
      return;
    }
    this.preemptions += kind === "preempted";
    this.spans.push({ kind, begin: last?.end ?? this.arrival, end, tokens });
    if (this.spans.length > MOST_SPANS) this.spans.shift();
  }
}
