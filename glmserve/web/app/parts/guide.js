// The guide, from the package's own Markdown.
import { html, useEffect, useLayoutEffect, useRef, useSignal, useState } from "../lib.js";
import { t } from "../language.js";
import { Failed } from "../later.js";
import { anchorOf, isMissing, loadGuide, pages, search } from "../guide.js";
import { MarkdownWriter, safeAddress } from "../markdown.js";
import { go, route } from "../route.js";

const FOLDER = new URL("../../guide/", import.meta.url);

export function GuideView() {
  const { id, place } = useSignal(route);
  const list = useSignal(pages);
  const [wanted, setWanted] = useState("");
  useEffect(() => { loadGuide(); }, []);
  const page = list.find((one) => one.name === id) ?? list[0];
  if (useSignal(isMissing)) return html`<${Failed} id="guide-text" />`;
  return html`<div class="guide">
    <nav class="guide-list" aria-label=${t("guide")}>
      <label class="search"><span class="unseen">${t("search_guide")}</span>
        <input type="search" placeholder=${t("search_guide")} value=${wanted} onInput=${(event) => setWanted(event.target.value)} /></label>
      ${wanted.length > 1 ? html`<${Found} wanted=${wanted} />` : html`<ul>${list.map((one) => html`<li key=${one.name}>
        <button type="button" aria-current=${one === page ? "page" : null} onClick=${() => go("guide", one.name)}>${one.title}</button></li>`)}</ul>`}
    </nav>
    ${page && html`<${Page} key=${page.name} page=${page} place=${place} />`}
  </div>`;
}

function Found({ wanted }) {
  const found = search(wanted);
  return html`<ul class="found">${found.map((hit, index) => html`<li key=${index}><button type="button" onClick=${() => go("guide", hit.name, hit.place)}>
    <strong>${hit.title}</strong><span>${hit.line}</span></button></li>`)}
    ${!found.length && html`<li class="none">${t("nothing_found")}</li>`}</ul>`;
}

function Page({ page, place }) {
  const box = useRef(null);
  useLayoutEffect(() => {
    const text = page.text.replaceAll("http://127.0.0.1:8000", here());
    const how = { resolve: addressInGuide, piece: Infinity, keepsLines: false, showsPictures: true };
    new MarkdownWriter(box.current, how).show(text, true);
    box.current.focus();
  }, [page]);
  useLayoutEffect(() => {
    const headings = [...box.current.querySelectorAll("h1, h2, h3, h4")];
    const target = headings.find((one) => anchorOf(one.textContent) === place);
    if (target) target.scrollIntoView();
    else box.current.scrollTop = 0;
  }, [page, place]);
  return html`<article id="guide-text" class="prose guide-text" tabindex="-1" ref=${box}></article>`;
}

/** This server's own address, for commands that can be copied as they are. */
const here = () => new URL(".", location.href).href.replace(/\/$/, "");

/** Links between pages stay in the guide; pictures come from the package. */
function addressInGuide(text) {
  const [file, anchor = ""] = text.split("#");
  if (/^[\w.-]+\.md$/.test(file)) return `#/guide/${file}${anchor && `/${anchor}`}`;
  if (!file) return `#/guide/${route.value.id || "README.md"}/${anchor}`;
  if (/^[\w.-]+\.(svg|png)$/.test(file)) return new URL(file, FOLDER).href;
  return safeAddress(text);
}
