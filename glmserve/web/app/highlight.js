// Colours in code. The library comes when the first block of code has a language.
let loading = null;

/** Colour the text of a `code` element whose language is known. */
export async function highlight(code) {
  const { language } = code.dataset;
  if (!language || code.textContent.length > 100_000) return;
  loading ??= import("../vendor/highlight/highlight.js").then((module) => module.default);
  const library = await loading.catch(() => null);
  if (!library?.getLanguage(language)) return;
  const { rootNode } = library.highlight(code.textContent, { language })._emitter;
  code.replaceChildren(...rootNode.children.map(nodeOf));
}

/** The library's own tree as nodes: its text is never read as markup. */
function nodeOf(part) {
  if (typeof part === "string") return document.createTextNode(part);
  const span = document.createElement("span");
  span.className = `hl-${String(part.scope).split(".")[0]}`;
  span.append(...part.children.map(nodeOf));
  return span;
}
