// Bodies of requests, from messages and settings.
import { models } from "./server.js";
import { isObject, isTools, problemOf, settings } from "./settings.js";

const NUM_ALTERNATIVES = 5;
const SEED_LIMIT = 2 ** 31;

/** The model that requests name: the chosen one if it is there, else the first. */
export function chosenModel() {
  const names = models.value.map((model) => model.id);
  return names.includes(settings.value.model) ? settings.value.model : names[0] ?? settings.value.model;
}

/** Fields of both kinds of request. The seed is always sent: an answer that has lost its connection
 * goes on with the same one, so the rest is what it would have been. */
function common() {
  const { sampling, stop, further } = settings.value;
  const stops = stop.split("\n").filter(Boolean);
  return {
    model: chosenModel(),
    stream: true,
    stream_options: { include_usage: true, continuous_usage_stats: true },
    return_token_ids: true,
    seed: Math.floor(Math.random() * SEED_LIMIT),
    ...sampling,
    ...(stops.length ? { stop: stops } : {}),
    ...(further.trim() && !problemOf(further, isObject) ? JSON.parse(further) : {}),
  };
}

export function chatBody(path) {
  const { tools, schema, scores } = settings.value;
  const body = { ...common(), messages: wireMessages(path) };
  if (tools.trim() && !problemOf(tools, isTools)) body.tools = JSON.parse(tools);
  if (schema.trim() && !problemOf(schema, isObject)) {
    const format = { name: "answer", schema: JSON.parse(schema), strict: true };
    body.response_format = { type: "json_schema", json_schema: format };
  }
  if (scores) Object.assign(body, { logprobs: true, top_logprobs: NUM_ALTERNATIVES });
  return body;
}

export function completionBody(prompt) {
  const { scores } = settings.value;
  return { max_tokens: 256, ...common(), prompt, ...(scores ? { logprobs: NUM_ALTERNATIVES } : {}) };
}

/** Messages as the API has them, with the system prompt first. */
export function wireMessages(path) {
  const { system } = settings.value;
  const first = system.trim() ? [{ role: "system", content: system }] : [];
  return [...first, ...path.map(wireMessage)];
}

function wireMessage(message) {
  if (message.role === "tool") {
    return { role: "tool", tool_call_id: message.callId, content: message.content };
  }
  const calls = message.calls?.map(({ id, name, arguments: text }) => ({
    id, type: "function", function: { name, arguments: text },
  }));
  const has = calls?.length ? { tool_calls: calls } : {};
  return { role: message.role, content: message.content || (calls?.length ? null : ""), ...has };
}
