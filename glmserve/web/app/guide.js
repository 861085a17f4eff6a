// The pages of the guide: loaded once, and searched here.
import { signal } from "./lib.js";

const FOLDER = new URL("../guide/", import.meta.url);
const MOST_FOUND = 30;

/** name, title and text of each page, in the order of the guide's index. */
export const pages = signal([]);
/** Whether the pages could not be loaded. */
export const isMissing = signal(false);
let loading = null;

export function loadGuide() {
  isMissing.value = false;
  loading ??= load().catch(() => { [loading, isMissing.value] = [null, true]; });
  return loading;
}

async function load() {
  const index = await read("README.md");
  const names = [...index.matchAll(/\]\(([\w.-]+\.md)\)/g)].map((match) => match[1]);
  const unique = ["README.md", ...new Set(names)];
  const texts = await Promise.all(unique.map(read));
  pages.value = unique.map((name, place) => ({ name, title: titleOf(texts[place]), text: texts[place] }));
}

async function read(name) {
  const response = await fetch(new URL(name, FOLDER));
  if (!response.ok) throw new TypeError(`HTTP ${response.status}`); // of another version of the server
  return response.text();
}

const titleOf = (text) => text.match(/^# (.*)$/m)?.[1] ?? "";

/** The anchor of a heading, as GitHub makes it. */
export function anchorOf(heading) {
  return heading.toLowerCase().replace(/[^\p{L}\p{N}_\- ]/gu, "").replaceAll(" ", "-");
}

/** Lines that contain all words, as {name, title, place, line}; place: the anchor of their heading. */
export function search(text) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  const found = [];
  for (const { name, title, text: page } of pages.value) {
    let heading = "";
    for (const line of page.split("\n")) {
      heading = line.match(/^#+ (.*)$/)?.[1] ?? heading;
      const low = line.toLowerCase();
      if (words.every((word) => low.includes(word))) {
        found.push({ name, title, place: anchorOf(heading), line: line.slice(0, 160) });
      }
      if (found.length === MOST_FOUND) return found;
    }
  }
  return found;
}
