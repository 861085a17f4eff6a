// Answers: asked for, read, kept, stopped, and gone on with after the page was loaded anew.
import { add, changesOf, live, path, save, touch } from "./chats.js";
import { exchange, newRecord } from "./exchange.js";
import { signal } from "./lib.js";
import { chatBody } from "./request.js";
import { restOf, sameAgain } from "./rest.js";
import { announce } from "./announcing.js";
import * as storage from "./storage.js";

const PATH = "v1/chat/completions";
const SAVE_EVERY = 400; // milliseconds
const LEAST_SECONDS = 0.02; // over which a speed is taken

/** Controllers of the answers that are being read here, by message id. */
const running = new Map();
/** Whether anything is being read. */
export const isBusy = signal(false);

/** Answer the conversation that ends with `parent`. */
export async function answer(parent) {
  const body = chatBody(pathOf(parent));
  const message = await add(parent.id, {
    role: "assistant", state: "streaming", model: body.model, exchange: newRecord(PATH, body),
  });
  await run(message);
}

/** Go on where the message ends: the model continues its own text. */
export async function goOn(message) {
  const body = { ...chatBody(pathOf(message)), continue_final_message: true };
  delete body.response_format;
  const before = { told: message.stats?.tokens, base: message.content };
  message.exchange = newRecord(PATH, body, before);
  message.state = "streaming";
  await save(message);
  await run(message);
}

/** End the answer; what there is of it stays. */
export function stop(message) {
  running.get(message.id)?.abort(new DOMException("stopped", "AbortError"));
}

export function stopAll() {
  running.forEach((controller) => controller.abort(new DOMException("stopped", "AbortError")));
}

/** Read on the answers that the last page was reading. Another tab may be reading them now: each is
 * read by one tab, where the browser has locks. */
export async function resumeAll() {
  const all = await storage.all("messages");
  for (const message of all.filter((one) => one.state === "streaming")) {
    live.set(message.id, path().find((one) => one.id === message.id) ?? message);
    run(live.get(message.id), true).catch(() => {});
  }
}

async function run(message, isOld = false) {
  if (!navigator.locks) return read(message);
  return navigator.locks.request(`answer ${message.id}`, async () => {
    const kept = isOld ? await storage.get("messages", message.id) : message;
    Object.assign(message, kept);
    if (message.state === "streaming") await read(message);
    else live.delete(message.id), touch(message);
  });
}

async function read(message) {
  const controller = new AbortController();
  const meter = new Meter(message);
  running.set(message.id, controller);
  live.set(message.id, message);
  isBusy.value = true;
  announce("answering");
  const saving = setInterval(() => save(message), SAVE_EVERY);
  try {
    const take = (event) => { meter.take(event); apply(message, event); touch(message); };
    await exchange(() => message.exchange, take, () => askAnew(message), controller.signal);
    message.state = "done";
    announce("answered");
  } catch (error) {
    message.state = error.name === "AbortError" ? "stopped" : "failed";
    message.error = message.state === "failed" ? error.message : undefined;
    announce(message.state);
  } finally {
    clearInterval(saving);
    running.delete(message.id);
    live.delete(message.id);
    isBusy.value = running.size > 0;
    delete message.exchange;
    delete message.again;
    changesOf(message).value += 1;
    await save(message);
  }
}

/** Ask for the rest without event ids. A plain text is continued. Anything else, and a text that
 * cannot be continued exactly, is computed again; what is there stays until the new one is as long. */
async function askAnew(message) {
  const record = message.exchange;
  const body = JSON.parse(record.body);
  const isText = !body.tools && !body.response_format && !body.logprobs && !message.thoughts;
  const rest = isText && message.content ? await restOfText(message, body) : null;
  message.exchange = rest ?? sameAgain(record);
  const { base } = message.exchange;
  message.again = rest ? undefined : { content: base, thoughts: base ? message.thoughts : undefined };
}

function restOfText(message, body) {
  const before = body.continue_final_message ? body.messages.slice(0, -1) : body.messages;
  const messages = [...before, { role: "assistant", content: message.content }];
  const how = { messages, continue_final_message: true };
  const question = { ...how, add_generation_prompt: false, model: body.model };
  return restOf(message.exchange, { ...body, ...how }, question, message.content);
}

function apply(message, event) {
  const [choice] = event.choices;
  if (!choice) return;
  const target = message.again ?? message;
  const { delta } = choice;
  if (delta.content) target.content += delta.content;
  if (delta.reasoning_content) target.thoughts = (target.thoughts ?? "") + delta.reasoning_content;
  for (const part of delta.tool_calls ?? []) applyCall(target, part);
  if (choice.logprobs) (target.scores ??= []).push(...choice.logprobs.content.map(score));
  if (choice.finish_reason) target.finish = choice.finish_reason;
  if (target !== message && (target.finish || isAsLong(target, message))) overtake(message);
}

const isAsLong = (one, other) =>
  one.content.length >= other.content.length
  && (one.thoughts?.length ?? 0) >= (other.thoughts?.length ?? 0)
  && (one.calls?.length ?? 0) >= (other.calls?.length ?? 0);

function overtake(message) {
  Object.assign(message, { calls: undefined, scores: undefined }, message.again, { again: undefined });
}

function applyCall(message, part) {
  const calls = (message.calls ??= []);
  const call = (calls[part.index] ??= { id: "", name: "", arguments: "" });
  call.id ||= part.id ?? "";
  call.name ||= part.function?.name ?? "";
  call.arguments += part.function?.arguments ?? "";
}

const score = ({ token, logprob, top_logprobs: top }) => ({
  token, logprob, top: top.map((one) => [one.token, one.logprob]),
});

const pathOf = (message) => {
  const all = path();
  return all.slice(0, all.findIndex((one) => one.id === message.id) + 1);
};

/** Times and counts of one answer: first token, speed, cached tokens. */
class Meter {
  constructor(message) {
    this.message = message;
    this.begin = performance.now();
    this.base = message.stats?.tokens ?? 0;
    this.isFirst = !message.content;
  }

  take({ usage, choices }) {
    const now = performance.now();
    const stats = (this.message.stats ??= {});
    if (usage) {
      const told = this.message.exchange.told ?? 0;
      stats.tokens = told + usage.completion_tokens;
      stats.prompt ??= usage.prompt_tokens;
      stats.cached ??= usage.prompt_tokens_details.cached_tokens;
    }
    if (!choices.length || !usage?.completion_tokens) return;
    if (this.first === undefined) {
      this.first = now;
      this.tokensAtFirst = stats.tokens;
      if (this.isFirst) stats.wait = now - this.begin;
    }
    const seconds = (now - this.first) / 1000;
    if (seconds > LEAST_SECONDS) stats.speed = (stats.tokens - this.tokensAtFirst) / seconds;
  }
}

addEventListener("pagehide", () => {
  live.forEach((message) => running.has(message.id) && save(message));
});
