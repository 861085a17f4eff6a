// Formulas. The library and its fonts come with the first formula.
const FOLDER = new URL("../vendor/katex/", import.meta.url);
const LONGEST = 20_000; // characters

let loading = null;

function load() {
  const sheet = Object.assign(document.createElement("link"), { rel: "stylesheet" });
  sheet.href = new URL("katex.css", FOLDER).href;
  document.head.append(sheet);
  return import("../vendor/katex/katex.js").then(() => globalThis.katex);
}

/** Write the element's text as a formula; a text that is none stays as it is. */
export async function renderMaths(element, isBlock) {
  const source = element.textContent;
  if (!source.trim() || source.length > LONGEST) return;
  loading ??= load();
  const library = await loading.catch(() => null);
  if (!library) return;
  const formula = document.createElement("span");
  try {
    library.render(source, formula, { displayMode: isBlock, throwOnError: true, maxExpand: 200, trust: false });
    element.replaceChildren(...formula.childNodes);
  } catch {
    element.title = source;
  }
}
