// The settings of the next request: system prompt, sampling, tools, schema.
import { html, useSignal, useState } from "../lib.js";
import { t } from "../language.js";
import { defaults } from "../server.js";
import { change, changeSampling, isFitting, isObject, isTools, problemOf, SAMPLING, settings } from "../settings.js";
import { IconButton } from "./icons.js";
import { settingsAreOpen } from "./opened.js";

export function SettingsPanel() {
  const now = useSignal(settings);
  const close = () => { settingsAreOpen.value = false; };
  return html`<div class="veil only-narrow" onClick=${close}></div>
  <aside class="settings" aria-label=${t("settings")}>
    <header><h2>${t("settings")}</h2><${IconButton} name="close" label=${t("close")} onClick=${close} /></header>
    <${Area} name="system" label=${t("system_prompt")} rows="4" />
    <h3>${t("sampling")}</h3>
    ${SAMPLING.map((field) => html`<${NumberField} key=${field[0]} field=${field} />`)}
    <${Area} name="stop" label=${t("stop_strings")} rows="2" />
    <h3>${t("structure")}</h3>
    <label class="check"><input type="checkbox" checked=${now.scores} onChange=${(event) => change({ scores: event.target.checked })} />${t("ask_scores")}</label>
    <${Area} name="schema" label=${t("schema")} rows="5" isRight=${isObject} kind=${t("not_object")} placeholder='{"type": "object", …}' />
    <${Area} name="tools" label=${t("tools")} rows="5" isRight=${isTools} kind=${t("not_tools")} placeholder='[{"type": "function", "function": {…}}]' />
    <${Area} name="further" label=${t("further")} rows="2" isRight=${isObject} kind=${t("not_object")} placeholder='{"min_tokens": 20}' />
  </aside>`;
}

function Area({ name, label, rows, isRight, kind, placeholder }) {
  const text = useSignal(settings)[name];
  const problem = isRight ? problemOf(text, isRight) : "";
  return html`<label class="area">${label}
    <textarea name=${name} rows=${rows} class=${isRight ? "mono" : ""} dir="auto" spellcheck=${!isRight} placeholder=${placeholder}
      aria-invalid=${Boolean(problem)} value=${text} onInput=${(event) => change({ [name]: event.target.value })}></textarea>
    ${problem && html`<span class="problem" role="alert">${problem === "kind" ? kind : problem}</span>`}</label>`;
}

/** A number that the server does not take is named, and not sent. */
function NumberField({ field }) {
  const [name, least, most, step] = field;
  const value = useSignal(settings).sampling[name];
  const usual = useSignal(defaults)[name];
  const [wrong, setWrong] = useState(null); // the text of a field that is not sent
  const set = (event) => {
    const { value: text, validity } = event.target;
    const isRight = !validity.badInput && (text === "" || isFitting(Number(text), field));
    setWrong(isRight ? null : text);
    changeSampling(name, isRight && text !== "" ? Number(text) : undefined);
  };
  const shown = usual ?? t(name === "seed" ? "random" : "what_fits");
  return html`<label class="number">${t(`field_${name}`)}<code>${name}</code>
    <input type="number" name=${name} min=${least} max=${most} step=${step} placeholder=${shown} value=${wrong ?? value ?? ""}
      aria-invalid=${wrong !== null} onInput=${set} />
    ${wrong !== null && html`<span class="problem" role="alert">${t(step < 1 ? "not_number" : "not_whole", { least, most })}</span>`}
  </label>`;
}
