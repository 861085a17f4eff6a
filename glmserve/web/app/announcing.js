// What screen readers are told: that an answer begins and ends, never its words one by one.
import { signal } from "./lib.js";

/** Key of a text, or empty. */
export const announced = signal("");

export function announce(key) {
  announced.value = key;
}
