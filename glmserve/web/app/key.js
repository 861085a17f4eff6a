// The API key: kept for this tab, or on this device if the user asks for it.
import { signal } from "./lib.js";
import { keptValue } from "./kept.js";

export const apiKey = signal(
  keptValue.read(sessionStorage, "key") ?? keptValue.read(localStorage, "key") ?? "",
);
/** Whether the server has refused a request for its key. */
export const keyIsMissing = signal(false);

export function setKey(key, isRemembered) {
  keptValue.write(sessionStorage, "key", key || null);
  keptValue.write(localStorage, "key", isRemembered && key ? key : null);
  apiKey.value = key;
  keyIsMissing.value = false;
}

/** Headers that carry a key, if there is one: its bytes in UTF-8, as the server compares them. */
export function headersWith(key) {
  return key ? { Authorization: `Bearer ${String.fromCharCode(...new TextEncoder().encode(key))}` } : {};
}

/** Headers that carry the API key, if there is one. */
export function keyHeaders() {
  return headersWith(apiKey.value);
}
