// Small values that outlive the page: JSON in localStorage, or in sessionStorage for one tab.
import { signal } from "./lib.js";

function read(area, name) {
  try { return JSON.parse(area.getItem(`glmserve.${name}`)); } catch { return null; }
}

function write(area, name, value) {
  try {
    if (value === null) area.removeItem(`glmserve.${name}`);
    else area.setItem(`glmserve.${name}`, JSON.stringify(value));
  } catch { /* the browser keeps nothing; the page works without */ }
}

/** A signal whose value is kept under this name. */
export function kept(name, initial, area = localStorage) {
  const value = signal(read(area, name) ?? initial);
  let isFirst = true;
  value.subscribe((now) => {
    if (!isFirst) write(area, name, now);
    isFirst = false;
  });
  return value;
}

export const keptValue = { read, write };

/** An id that nothing else has: 32 hexadecimal digits. */
export function newId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, "0")).join("");
}
