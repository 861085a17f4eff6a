// The notebook's text, and its continuation by /v1/completions. It outlives the page as answers do.
import { announce } from "./announcing.js";
import { exchange, newRecord } from "./exchange.js";
import { kept } from "./kept.js";
import { computed, signal } from "./lib.js";
import { completionBody } from "./request.js";
import { restOf, sameAgain } from "./rest.js";

/** text; before: the text without the last continuation; record: of the exchange under way. */
export const notebook = kept("notebook", { text: "" });
const controller = signal(null);
export const isWriting = computed(() => controller.value !== null);

export function stopWriting() {
  controller.value?.abort(new DOMException("stopped", "AbortError"));
}

export function undo() {
  notebook.value = { text: notebook.value.before };
}

export async function continueText() {
  const { text } = notebook.value;
  if (!text || isWriting.value) return;
  const record = newRecord("v1/completions", completionBody(text), { base: text });
  notebook.value = { text, before: text, record };
  await read();
}

/** Read on what the last page was reading. */
export function resumeText() {
  if (notebook.value.record) read();
}

async function read() {
  const abort = new AbortController();
  const writing = new Writing(notebook.value);
  controller.value = abort;
  announce("answering");
  let error;
  try {
    await exchange(() => writing.record, (e) => writing.take(e), () => writing.askAnew(), abort.signal);
  } catch (problem) {
    error = problem.name === "AbortError" ? undefined : problem.message;
  }
  const { text, before, stats } = writing;
  notebook.value = { text, before, stats, error };
  announce("answered");
  controller.value = null;
}

/** One continuation under way. */
class Writing {
  constructor({ text, before, stats, record, again }) {
    Object.assign(this, { text, before, stats, record, again });
  }

  take({ choices: [choice], usage }) {
    if (this.again === undefined) this.text += choice?.text ?? "";
    else this.again += choice?.text ?? "";
    if (this.again?.length >= this.text.length) [this.text, this.again] = [this.again, undefined];
    if (usage) this.measure(this.record.told + usage.completion_tokens);
    const { text, before, stats, record, again } = this;
    notebook.value = { text, before, stats, record: { ...record }, again };
  }

  measure(tokens) {
    const now = performance.now();
    this.begin ??= { now, tokens };
    const seconds = (now - this.begin.now) / 1000;
    this.stats = { tokens, speed: seconds > 0.05 ? (tokens - this.begin.tokens) / seconds : undefined };
  }

  /** See askAnew of answers. */
  async askAnew() {
    const { record, text } = this;
    const body = JSON.parse(record.body);
    const rest = await restOf(record, { ...body, prompt: text }, { prompt: text, model: body.model }, text);
    this.record = rest ?? sameAgain(record);
    this.again = rest ? undefined : this.record.base;
  }
}
