// What the next request will say besides its messages. Kept on this device and with each chat.
import { kept } from "./kept.js";

const LARGEST = 2 ** 31 - 1; // of 32 bits

/** Sampling fields in the order of the panel: name, smallest and largest value that the server takes, step of
 * the arrows. Where the step is 1, values are whole numbers. */
export const SAMPLING = [
  ["temperature", 0, 2, 0.05],
  ["top_p", 0, 1, 0.01],
  ["top_k", -1, LARGEST, 1],
  ["min_p", 0, 1, 0.01],
  ["repetition_penalty", 0.01, 10, 0.01],
  ["presence_penalty", -2, 2, 0.1],
  ["frequency_penalty", -2, 2, 0.1],
  ["max_tokens", 1, LARGEST, 1],
  ["seed", Number.MIN_SAFE_INTEGER, Number.MAX_SAFE_INTEGER, 1],
];

const NOTHING = {
  model: "", system: "", sampling: {}, tools: "", schema: "", stop: "", further: "", scores: false,
};

export const settings = kept("settings", NOTHING);

export function change(changed) {
  settings.value = { ...settings.value, ...changed };
}

/** Set one sampling field; undefined: the server's default again. */
export function changeSampling(name, value) {
  const sampling = { ...settings.value.sampling, [name]: value };
  if (value === undefined) delete sampling[name];
  change({ sampling });
}

/** Whether the server takes this number for a field of SAMPLING. */
export function isFitting(number, [, least, most, step]) {
  return number >= least && number <= most && (step < 1 || Number.isInteger(number));
}

/** The problem of a text that is to be JSON of a kind: empty, or the parser's own words. */
export function problemOf(text, isRight) {
  if (!text.trim()) return "";
  try {
    return isRight(JSON.parse(text)) ? "" : "kind";
  } catch (error) { return error.message; }
}

export const isTools = (value) => Array.isArray(value) && value.every((one) => one?.type);
export const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);
