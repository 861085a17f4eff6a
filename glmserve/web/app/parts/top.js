// The bar above the view: model, language, theme, settings.
import { html, useSignal } from "../lib.js";
import { language, setLanguage, t } from "../language.js";
import { chosenModel } from "../request.js";
import { models } from "../server.js";
import { change, settings } from "../settings.js";
import { IconButton } from "./icons.js";
import { historyIsOpen, settingsAreOpen } from "./opened.js";

const TITLED = new Set(["guide", "board"]);

export function TopBar({ view }) {
  const isOpen = useSignal(settingsAreOpen);
  return html`<header class="top">
    <${IconButton} name="menu" label=${t("history")} class="icon-button only-narrow"
      onClick=${() => { historyIsOpen.value = true; }} />
    ${TITLED.has(view) ? html`<strong class="top-title">${t(view === "guide" ? "guide" : "board")}</strong>` : html`<${ModelChoice} />`}
    <span class="space"></span>
    <${LanguageButton} />
    ${!TITLED.has(view) && html`<${IconButton} name="panel" label=${t("settings")} aria-expanded=${isOpen}
      onClick=${() => { settingsAreOpen.value = !isOpen; }} />`}
  </header>`;
}

function ModelChoice() {
  const list = useSignal(models);
  useSignal(settings);
  return html`<label class="model"><span class="unseen">${t("model")}</span>
    <select value=${chosenModel()} disabled=${!list.length}
      onChange=${(event) => change({ model: event.target.value })}>
      ${list.length === 0 && html`<option>…</option>`}
      ${list.map((model) => html`<option key=${model.id} value=${model.id} selected=${model.id === chosenModel()}>
        ${model.parent ? `${model.id} · ${t("adapter")}` : model.id}</option>`)}
    </select></label>`;
}

function LanguageButton() {
  const isChinese = useSignal(language) !== "en";
  return html`<button type="button" class="text-button" lang=${isChinese ? "en" : "zh-CN"}
    onClick=${() => setLanguage(isChinese ? "en" : "zh-CN")}>${isChinese ? "English" : "中文"}</button>`;
}
