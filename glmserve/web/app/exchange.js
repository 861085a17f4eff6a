// One answer that outlives its connections.
import { call, ServerError } from "./api.js";
import { eventsOf } from "./events.js";
import { newId } from "./kept.js";
import { look, untilReady } from "./server.js";

const GONE = new Set(["stream_gone", "stream_mismatch", "adapter_changed", "idempotency_key_reused"]);
const DONE = "[DONE]";
const SILENCE = 1000; // milliseconds without an event after which the server is asked how it is

/** What is kept of a request, so that its answer can be read on.
 *
 * key, lastId: by which a server with a journal knows the stream, and the last event that was read.
 * told: tokens of the answer before this request. ids: the tokens of the prompt, of which there are
 * numPrompt, and of the answer. base: the text that the request continues. */
export function newRecord(path, body, { told = 0, base = "" } = {}) {
  return { path, body: JSON.stringify(body), key: newId(), lastId: "", told, base, ids: [], numPrompt: 0 };
}

class ConnectionLost extends Error {}

/**
 * Read a stream to its end, over as many connections as that takes.
 *
 * A record is that of newRecord, and is kept with the answer. A server with a journal numbers
 * its events: the same request with the last number gets the rest, from this server or the next one.
 * Without a number, `again` puts another record in its place, which asks for the rest in another way.
 *
 * @param {() => object} current - the record
 * @param {(data: object) => void} take - called with the JSON of each event
 * @param {() => Promise<void>} again
 * @param {AbortSignal} signal - ends it; the promise is then rejected with an AbortError
 */
export async function exchange(current, take, again, signal) {
  if (!current().lastId && current().ids.length) await again(); // begun by an earlier page
  for (;;) {
    const record = current();
    try {
      return await readOnce(record, take, signal);
    } catch (error) {
      if (signal.aborted) throw signal.reason;
      if (error instanceof ServerError && GONE.has(error.code)) await again();
      else if (isOfTheMoment(error)) {
        look();
        await untilReady(signal);
        if (!record.lastId && error instanceof ConnectionLost) await again();
      } else throw error;
    }
  }
}

async function readOnce(record, take, signal) {
  const headers = { "Idempotency-Key": record.key };
  if (record.lastId) headers["Last-Event-ID"] = record.lastId;
  const response = await call(record.path, { method: "POST", headers, body: record.body, signal });
  let isDone = false;
  let isSilent = true;
  const watch = setInterval(() => { if (isSilent) look(); isSilent = true; }, SILENCE);
  try {
    for await (const { id, data } of eventsOf(response.body)) {
      isSilent = false;
      if (isDone ||= data === DONE) continue;
      const event = JSON.parse(data);
      if (event.error) throw new ServerError(0, event.error);
      count(record, event);
      take(event);
      if (id !== undefined) record.lastId = id;
    }
  } catch (error) {
    if (error instanceof ServerError) throw error;
  } finally {
    clearInterval(watch);
  }
  if (!isDone) throw new ConnectionLost();
}

function count(record, { choices: [choice], prompt_token_ids: above }) {
  const prompt = choice?.prompt_token_ids ?? above;
  if (prompt?.length) {
    record.ids = [...prompt];
    record.numPrompt = prompt.length;
  }
  if (choice?.token_ids) record.ids.push(...choice.token_ids);
}

/** Whether the server may answer the same request later. */
function isOfTheMoment(error) {
  if (error instanceof ServerError) return error.status === 503;
  return error instanceof ConnectionLost || error instanceof TypeError;
}
