// A file of `glmserve serve --record`: its events, and when they were. Prompts in it are not looked at.
import { crc32 } from "./crc32.js";
import { decode } from "./msgpack.js";

const MAGIC = "glmserve recording 4\n";
const WITHOUT_CHECKSUMS = "glmserve recording 2\n";
const STEP = 0.02; // seconds between steps behind the last time that is known

/** {info, events}: facts of the runner, and [seconds, event, seconds of a step] in order.
 * Raises TypeError for other files. */
export function readFile(buffer) {
  const bytes = new Uint8Array(buffer);
  const first = new TextDecoder().decode(bytes.subarray(0, MAGIC.length));
  if (first !== MAGIC && first !== WITHOUT_CHECKSUMS) throw new TypeError("no recording");
  const events = [...bodiesOf(bytes.subarray(MAGIC.length), first === MAGIC)].map(decode);
  const [, , , , info] = events.shift() ?? [];
  if (!info) throw new TypeError("no beginning");
  const times = new Map(events.filter(([kind]) => kind === "time").map(([, id, ...both]) => [id, both]));
  return { info, isExact: times.size > 0, events: times.size ? timed(events, times) : spread(events) };
}

/** Up to the first frame that is not whole: the server may have been killed. */
function* bodiesOf(bytes, hasChecksums) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let at = 0;
  let checksum = 0; // of all parts so far
  const take = (size) => {
    const part = bytes.subarray(at, at + size);
    at += size;
    if (!hasChecksums) return at <= bytes.length ? part : null;
    at += 4;
    if (at > bytes.length) return null;
    checksum = crc32(part, checksum);
    if (checksum !== view.getUint32(at - 4, true)) throw new TypeError("damaged");
    return part;
  };
  for (;;) {
    const start = at;
    const body = take(4) && take(view.getUint32(start, true));
    if (!body) return;
    yield body;
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
