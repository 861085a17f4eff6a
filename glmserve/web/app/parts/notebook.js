// A text that the model continues as it is: no roles, no chat format.
import { html, useEffect, useRef, useSignal } from "../lib.js";
import { t } from "../language.js";
import { continueText, isWriting, notebook, stopWriting, undo } from "../notebook.js";
import { health } from "../server.js";

export function NotebookView() {
  const { text, before, stats, error } = useSignal(notebook);
  const isLive = useSignal(isWriting);
  const isReady = useSignal(health).status === "ready";
  const area = useRef(null);
  useEffect(() => { if (isLive) area.current.scrollTop = area.current.scrollHeight; }, [text]);
  const change = (event) => { notebook.value = { text: event.target.value }; };
  const onKey = (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); continueText(); }
  };
  return html`<div class="notebook">
    <h1 class="unseen">${t("notebook")}</h1>
    <textarea id="notebook" ref=${area} dir="auto" spellcheck="false" readonly=${isLive} placeholder=${t("notebook_about")}
      aria-label=${t("notebook")} value=${text} onInput=${change} onKeyDown=${onKey}></textarea>
    ${error && html`<p class="failure" role="alert">${error}</p>`}
    <div class="bar">
      ${isLive ? html`<button type="button" class="main-button" onClick=${stopWriting}>${t("stop")}</button>`
        : html`<button type="button" class="main-button" disabled=${!text || !isReady} onClick=${continueText}>${t("continue_text")}</button>`}
      <button type="button" class="plain-button" disabled=${isLive || before === undefined} onClick=${undo}>${t("undo")}</button>
      <span class="space"></span>
      ${stats && html`<span class="facts">${t("fact_tokens", { tokens: stats.tokens })}${stats.speed ? ` · ${t("fact_speed", { speed: stats.speed.toFixed(1) })}` : ""}</span>`}
    </div></div>`;
}
