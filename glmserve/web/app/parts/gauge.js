// How much of the model's context the conversation takes, counted by the server's tokenizer.
import { postJson } from "../api.js";
import { html, useEffect, useSignal, useState } from "../lib.js";
import { t } from "../language.js";
import { chosenModel, wireMessages } from "../request.js";
import { health, models } from "../server.js";
import { settings } from "../settings.js";

const PAUSE = 400; // milliseconds without a key before the server is asked

export function Gauge({ list, text }) {
  const state = useSignal(health).status;
  const { system } = useSignal(settings);
  const most = useSignal(models).find((model) => model.id === chosenModel())?.max_model_len;
  const [count, setCount] = useState(null);
  const isLive = list.some((message) => message.state === "streaming");
  const size = list.length;
  useEffect(() => {
    const all = text.trim() ? [...list, { role: "user", content: text }] : list;
    if (state !== "ready" || isLive || !(all.length || system)) return setCount(null);
    const controller = new AbortController();
    const timer = setTimeout(() => counted(all, controller.signal).then(setCount), PAUSE);
    return () => { clearTimeout(timer); controller.abort(); };
  }, [text, size, isLive, state, system, list[size - 1]?.id]);
  if (!most) return html`<div class="gauge"></div>`;
  const share = Math.min(1, (count ?? 0) / most);
  return html`<div class=${share > 0.9 ? "gauge full" : "gauge"}>
    ${count !== null && html`<meter min="0" max=${most} value=${count} aria-label=${t("context")}></meter>
      <span>${t("context_used", { count: count.toLocaleString(), most: most.toLocaleString() })}</span>`}
  </div>`;
}

async function counted(list, signal) {
  const messages = wireMessages(list);
  const isAnswered = messages[messages.length - 1]?.role === "assistant";
  const body = { model: chosenModel(), messages, add_generation_prompt: !isAnswered };
  return postJson("tokenize", body, signal).then((answer) => answer.count).catch(() => null);
}
