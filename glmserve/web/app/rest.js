// The rest of an answer from a server that has no journal, or no longer has this answer in it.
import { postJson } from "./api.js";
import { newRecord } from "./exchange.js";

/**
 * The record of a request for the rest behind `text`; null if only the whole answer can be asked for.
 *
 * The server reads the text again. Where it finds the tokens that the model had chosen, the model goes
 * on from there, and with the same seed it chooses what it would have chosen. Models sometimes choose
 * tokens in which nobody would read their text; then the answer is computed from its beginning.
 *
 * @param {object} record
 * @param {object} continuation - body of the request that continues the text
 * @param {object} question - body for /tokenize that shows how the text is read
 * @param {string} text
 */
export async function restOf(record, continuation, question, text) {
  const read = await postJson("tokenize", question).catch(() => null);
  const generated = (read?.count ?? 0) - record.numPrompt;
  if (generated <= 0 || read.tokens.some((id, place) => id !== record.ids[place])) return null;
  const body = { ...continuation };
  if (body.max_tokens) body.max_tokens = Math.max(1, body.max_tokens - generated);
  return newRecord(record.path, body, { told: record.told + generated, base: text });
}

/** The record of the same request. With the same seed it gives the same answer. */
export function sameAgain(record) {
  return newRecord(record.path, JSON.parse(record.body), record);
}
