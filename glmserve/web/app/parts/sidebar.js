// The views, and the history: search, rename, remove, export, import.
import { chat, chats, exported, remove, rename } from "../chats.js";
import { importChats } from "../importing.js";
import { html, useEffect, useRef, useSignal, useState } from "../lib.js";
import { t } from "../language.js";
import { go, route } from "../route.js";
import { version } from "../server.js";
import * as storage from "../storage.js";
import { theme, THEMES } from "../theme.js";
import { help, keyDialog } from "./dialogs.js";
import { Icon, IconButton } from "./icons.js";
import { historyIsOpen } from "./opened.js";
import { saveFile } from "../saving.js";

const MOST_SHOWN = 200; // conversations in the list; a search finds the others

export function Sidebar() {
  const isOpen = useSignal(historyIsOpen);
  const close = () => { historyIsOpen.value = false; };
  return html`
    ${isOpen && html`<div class="veil" onClick=${close}></div>`}
    <nav class=${isOpen ? "sidebar open" : "sidebar"} aria-label=${t("history")}
      onKeyDown=${(event) => event.key === "Escape" && close()}>
      <div class="brand"><span class="mark" aria-hidden="true"></span>glmserve<span class="facts">${useSignal(version)}</span><span class="space"></span>
        <${IconButton} name="close" label=${t("close")} class="icon-button only-narrow" onClick=${close} /></div>
      <${Views} />
      <${History} />
      <${Foot} />
    </nav>`;
}

function Views() {
  const { view, id } = useSignal(route);
  const items = [["chat", "plus", t("new_chat")], ["notebook", "notebook", t("notebook")], ["board", "board", t("board")], ["guide", "guide", t("guide")]];
  const show = (name) => { go(name); historyIsOpen.value = false; };
  return html`<div class="views">${items.map(([name, icon, label]) => html`
    <button type="button" key=${name} aria-current=${view === name && !(name === "chat" && id) ? "page" : null}
      onClick=${() => show(name)}><${Icon} name=${icon} />${label}</button>`)}</div>`;
}

function History() {
  const all = useSignal(chats);
  const open = useSignal(chat);
  const { view } = useSignal(route);
  const [wanted, setWanted] = useState("");
  const [within, setWithin] = useState(new Set());
  useEffect(() => {
    if (wanted.length < 2) return setWithin(new Set());
    const timer = setTimeout(() => storage.chatsWith(wanted).then(setWithin), 200);
    return () => clearTimeout(timer);
  }, [wanted]);
  const found = all.filter((one) => one.title.toLowerCase().includes(wanted.toLowerCase()) || within.has(one.id));
  return html`
    <label class="search"><${Icon} name="search" /><span class="unseen">${t("search")}</span>
      <input id="search" type="search" placeholder=${t("search")} value=${wanted}
        onInput=${(event) => setWanted(event.target.value)} /></label>
    <ul class="history">
      ${found.slice(0, MOST_SHOWN).map((one) => html`<${Entry} key=${one.id} one=${one}
        isOpen=${view === "chat" && open?.id === one.id} />`)}
      ${!found.length && html`<li class="none">${wanted ? t("nothing_found") : t("no_chats")}</li>`}
    </ul>`;
}

function Entry({ one, isOpen }) {
  const [isRenaming, setRenaming] = useState(false);
  const show = () => { go("chat", one.id); historyIsOpen.value = false; };
  const done = (title) => { setRenaming(false); if (title.trim()) rename(one.id, title.trim()); };
  if (isRenaming) return html`<li><${NameField} title=${one.title} done=${done} /></li>`;
  return html`<li class=${isOpen ? "entry open" : "entry"}>
    <button type="button" class="title" dir="auto" aria-current=${isOpen ? "page" : null} onClick=${show}
      onDblClick=${() => setRenaming(true)}>${one.title || "…"}</button>
    <${EntryMenu} one=${one} onRename=${() => setRenaming(true)} /></li>`;
}

function NameField({ title, done }) {
  const field = useRef(null);
  useEffect(() => field.current.select(), []);
  const onKey = (event) => {
    if (event.key === "Enter") done(event.target.value);
    if (event.key === "Escape") { event.stopPropagation(); done(""); }
  };
  return html`<input ref=${field} class="rename" aria-label=${t("rename")} value=${title}
    onKeyDown=${onKey} onBlur=${(event) => done(event.target.value)} />`;
}

function EntryMenu({ one, onRename }) {
  const details = useRef(null);
  const pick = (action) => () => { details.current.open = false; action(); };
  const drop = async () => {
    if (!confirm(t("really_remove", { title: one.title }))) return;
    const wasOpen = chat.value?.id === one.id;
    await remove(one.id);
    if (wasOpen) go("chat");
  };
  const toFile = async () => saveFile(`${one.title.slice(0, 40) || "chat"}.json`, await exported([one.id]));
  const onLeave = (event) => {
    if (!details.current.contains(event.relatedTarget)) details.current.open = false;
  };
  return html`<details ref=${details} class="menu" onFocusOut=${onLeave}>
    <summary aria-label=${t("more", { title: one.title })}><${Icon} name="more" /></summary>
    <div><button type="button" onClick=${pick(onRename)}>${t("rename")}</button>
      <button type="button" onClick=${pick(toFile)}>${t("export")}</button>
      <button type="button" class="danger" onClick=${pick(drop)}>${t("remove")}</button></div>
  </details>`;
}

function Foot() {
  const now = useSignal(theme);
  const file = useRef(null);
  const read = async (event) => {
    const [chosen] = event.target.files;
    event.target.value = "";
    try { await importChats(JSON.parse(await chosen.text())); } catch { alert(t("bad_file")); }
  };
  const all = async () => saveFile("glmserve-chats.json", await exported());
  return html`<div class="foot">
    <label class="theme"><span class="unseen">${t("theme")}</span>
      <select value=${now} onChange=${(event) => { theme.value = event.target.value; }}>
        ${THEMES.map((name) => html`<option key=${name} value=${name} selected=${name === now}>${t(`theme_${name}`)}</option>`)}
      </select></label>
    <div class="links">
      <button type="button" onClick=${all}>${t("export_all")}</button>
      <button type="button" onClick=${() => file.current.click()}>${t("import")}</button>
      <button type="button" onClick=${() => { keyDialog.value = true; }}>${t("api_key")}</button>
      <button type="button" onClick=${() => { help.value = true; }}>${t("shortcuts")}</button>
      <a href="docs" target="_blank" rel="noopener">API</a>
    </div>
    <input ref=${file} type="file" accept="application/json,.json" hidden onChange=${read} />
  </div>`;
}
