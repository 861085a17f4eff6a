// The field for the next message. Its text is kept for each conversation until it is sent.
import { answer, isBusy, stopAll } from "../answer.js";
import { add, chat } from "../chats.js";
import { keptValue } from "../kept.js";
import { html, useEffect, useLayoutEffect, useRef, useSignal, useState } from "../lib.js";
import { t } from "../language.js";
import { go } from "../route.js";
import { Gauge } from "./gauge.js";
import { IconButton } from "./icons.js";

const HIGHEST = 0.4; // of the window

export function Composer({ id, list }) {
  const field = useRef(null);
  const [text, setText] = useState(() => keptValue.read(localStorage, `draft.${id}`) ?? "");
  const isAnswering = useSignal(isBusy) && list.some((message) => message.state === "streaming");
  useLayoutEffect(() => fit(field.current), [text]);
  useEffect(() => { if (matchMedia("(hover: hover)").matches) field.current.focus(); }, []);
  const change = (now) => {
    keptValue.write(localStorage, `draft.${id}`, now || null);
    setText(now);
  };
  const send = async () => {
    if (!text.trim() || isAnswering) return;
    change("");
    const message = await add(chat.value?.leaf ?? null, { role: "user", content: text });
    go("chat", message.chat);
    await answer(message);
  };
  const onKey = (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      send();
    } else if (event.key === "ArrowUp" && !text) editLast();
  };
  return html`<form class="composer" onSubmit=${(event) => { event.preventDefault(); send(); }}>
    <div class="field">
      <textarea id="composer" ref=${field} rows="1" dir="auto" placeholder=${t("write")} aria-label=${t("write")}
        value=${text} onInput=${(event) => change(event.target.value)} onKeyDown=${onKey}></textarea>
      ${isAnswering
        ? html`<${IconButton} name="stop" class="icon-button round" label=${t("stop")} data-action="stop" onClick=${stopAll} />`
        : html`<${IconButton} name="send" class="icon-button round" label=${t("send")} data-action="send" disabled=${!text.trim()} onClick=${send} />`}
    </div>
    <${Gauge} list=${list} text=${text} />
  </form>`;
}

function fit(area) {
  area.style.height = "auto";
  area.style.height = `${Math.min(area.scrollHeight, innerHeight * HIGHEST)}px`;
}

function editLast() {
  [...document.querySelectorAll('.message.user [data-action="edit"]')].pop()?.click();
}
