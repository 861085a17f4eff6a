// The pages of the guide: loaded once, and searched here.
import { signal } from "./lib.js";

const FOLDER = new URL("../guide/", import.meta.url);
const MOST_FOUND = 30;

/** name, title and text of each page, in the order of the guide's index. */
export const pages = signal([]);
let loading = null;

export function loadGuide() {
  loading ??= load().catch(() => { loading = null; });
  return loading;
}

async function load() {
  const index = await read("README.md");
  const names = [...index.matchAll(/\]\(([\w.-]+\.md)\)/g)].map((match) => match[1]);
  const unique = ["README.md", ...new Set(names)];
  const texts = await Promise.all(unique.map(read));
  pages.value = unique.map((name, place) => ({ name, title: titleOf(texts[place]), text: texts[place] }));
}

const read = (name) => fetch(new URL(name, FOLDER)).then((response) => response.text());
const titleOf = (text) => text.match(/^# (.*)$/m)?.[1] ?? "";

/** Lines that contain all words, as {name, title, line}. */
export function search(text) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  const found = [];
  for (const { name, title, text: page } of pages.value) {
    for (const line of page.split("\n")) {
      const low = line.toLowerCase();
      if (words.every((word) => low.includes(word))) found.push({ name, title, line: line.slice(0, 160) });
      if (found.length === MOST_FOUND) return found;
    }
  }
  return found;
}
