// Dialogs: the API key, the shortcuts. The browser keeps the focus inside and gives it back.
import { apiKey, keyIsMissing, setKey } from "../key.js";
import { html, signal, useEffect, useRef, useSignal } from "../lib.js";
import { t } from "../language.js";

export const help = signal(false);
export const keyDialog = signal(false);

function Dialog({ label, onClose, children }) {
  const dialog = useRef(null);
  useEffect(() => { dialog.current.showModal(); }, []);
  const onClick = (event) => event.target === dialog.current && dialog.current.close();
  return html`<dialog ref=${dialog} aria-label=${label} onClose=${onClose} onClick=${onClick}>
    <div class="dialog">${children}</div></dialog>`;
}

export function KeyDialog() {
  const isMissing = useSignal(keyIsMissing);
  const close = () => { keyDialog.value = false; keyIsMissing.value = false; };
  const submit = (event) => {
    event.preventDefault();
    const form = new FormData(event.target);
    setKey(form.get("key").trim(), form.get("keep") === "on");
    keyDialog.value = false;
  };
  return html`<${Dialog} label=${t("api_key")} onClose=${close}>
    <form onSubmit=${submit}>
      <h2>${t("api_key")}</h2>
      <p>${isMissing ? t("key_needed") : t("key_about")}</p>
      <input name="key" type="password" autocomplete="off" aria-label=${t("api_key")} value=${apiKey.value} />
      <label class="check"><input type="checkbox" name="keep" />${t("key_keep")}</label>
      <div class="actions"><button type="button" class="plain-button" onClick=${close}>${t("cancel")}</button>
        <button type="submit" class="main-button">${t("use_key")}</button></div>
    </form></${Dialog}>`;
}

const KEYS = [
  ["Enter", "key_send"], ["Shift Enter", "key_line"], ["Esc", "key_stop"], ["↑", "key_edit"],
  ["Ctrl Shift O", "key_new"], ["Ctrl K", "key_search"], ["Ctrl ,", "key_settings"], ["Ctrl /", "key_help"],
];

export function HelpDialog() {
  return html`<${Dialog} label=${t("shortcuts")} onClose=${() => { help.value = false; }}>
    <h2>${t("shortcuts")}</h2>
    <dl class="keys">${KEYS.map(([keys, text]) => html`<div key=${text}><dt>${keys.split(" ").map((one) => html`<kbd key=${one}>${one}</kbd>`)}</dt>
      <dd>${t(text)}</dd></div>`)}</dl>
    <form method="dialog" class="actions"><button class="main-button">${t("close")}</button></form>
  </${Dialog}>`;
}
