// A file of `glmserve serve --record`: its events, and when they were. Prompts in it are not looked at.
import { decode } from "./msgpack.js";

const MAGIC = "glmserve recording 2\n";
const STEP = 0.02; // seconds between steps behind the last time that is known

/** {info, events}: facts of the runner, and [seconds, event, seconds of a step] in order.
 * Raises TypeError for other files. */
export function readFile(buffer) {
  const bytes = new Uint8Array(buffer);
  const begin = new TextEncoder().encode(MAGIC);
  if (begin.some((byte, place) => byte !== bytes[place])) throw new TypeError("no recording");
  const events = [...framesOf(bytes.subarray(begin.length))].map(decode);
  const [, , , , info] = events.shift() ?? [];
  if (!info) throw new TypeError("no beginning");
  const times = new Map(events.filter(([kind]) => kind === "time").map(([, id, ...both]) => [id, both]));
  return { info, isExact: times.size > 0, events: times.size ? timed(events, times) : spread(events) };
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

/** Steps are at their ends; those without one were lost with their worker. */
function timed(events, times) {
  const all = [];
  let before = 0;
  let evictions = null;
  for (const event of events) {
    if (event[0] === "evictions") evictions = event;
    else if (event[0] === "step" && times.has(event[1])) {
      const [submitted, done] = times.get(event[1]);
      if (evictions) all.push([submitted, evictions]);
      evictions = null;
      all.push([done, event, done - Math.max(before, submitted)]);
      before = done;
    } else if (["arrival", "end", "loss"].includes(event[0])) all.push([event[1], event]);
  }
  return all.sort(([a], [b]) => a - b);
}

/** Older recordings have the times of arrivals and ends; the steps between two of them are spread evenly. */
function spread(events) {
  const all = [];
  let steps = [];
  let last = 0;
  const until = (end) => {
    const apart = (end - last) / (steps.length + 1);
    steps.forEach((event, place) => all.push([last + (place + 1) * apart, event, apart]));
    steps = [];
    last = end;
  };
  for (const event of events) {
    if (event[0] === "step") steps.push(event);
    if (!["arrival", "end", "loss"].includes(event[0])) continue;
    until(event[1]);
    all.push([last, event]);
  }
  until(last + STEP * (steps.length + 1));
  return all;
}
