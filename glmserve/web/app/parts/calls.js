// Calls of tools: what the model asks for, and a field for what it gets.
import { answer } from "../answer.js";
import { add } from "../chats.js";
import { html, useRef } from "../lib.js";
import { t } from "../language.js";
import { visible } from "../markdown.js";

export function Calls({ message, isLast }) {
  const form = useRef(null);
  const isOpen = isLast && message.state === "done";
  const submit = async (event) => {
    event.preventDefault();
    const results = message.calls.map((_, index) => new FormData(form.current).get(`result ${index}`));
    let last = message;
    for (const [index, content] of results.entries()) {
      last = await add(last.id, { role: "tool", callId: message.calls[index].id, content });
    }
    await answer(last);
  };
  return html`<form class="calls" ref=${form} onSubmit=${submit}>
    ${message.calls.map((call, index) => html`<section class="call" key=${call.id}>
      <p>${t("call")} <code>${visible(call.name)}</code></p>
      <pre tabindex="0">${visible(pretty(call.arguments))}</pre>
      ${isOpen && html`<textarea name=${`result ${index}`} rows="2" required placeholder=${t("tool_result")} aria-label=${t("result_of", { name: call.name })}></textarea>`}
    </section>`)}
    ${isOpen && html`<div class="actions"><button type="submit" class="main-button">${t("send_results")}</button></div>`}
  </form>`;
}

function pretty(text) {
  try { return JSON.stringify(JSON.parse(text), null, 2); } catch { return text; }
}
