// One message: its text, what one can do with it, and how it came about.
import { answer, goOn, stop } from "../answer.js";
import { add, branches, changesOf, messages, show } from "../chats.js";
import { copyText } from "../copy.js";
import { html, useEffect, useLayoutEffect, useRef, useSignal, useState } from "../lib.js";
import { t } from "../language.js";
import { MarkdownWriter, visible } from "../markdown.js";
import { Calls } from "./calls.js";
import { IconButton } from "./icons.js";
import { Scores } from "./scores.js";

export function Message({ message, isLast }) {
  useSignal(changesOf(message));
  const [isEditing, setEditing] = useState(false);
  const edit = () => setEditing(true);
  const kind = { user: UserMessage, tool: ToolMessage, assistant: AssistantMessage }[message.role];
  return html`<article class=${`message ${message.role}`} aria-label=${t(`role_${message.role}`)}>
    ${isEditing ? html`<${Editor} message=${message} close=${() => setEditing(false)} />`
      : html`<${kind} message=${message} isLast=${isLast} edit=${edit} />`}
  </article>`;
}

function UserMessage({ message, edit }) {
  return html`<div class="bubble" dir="auto">${visible(message.content)}</div>
    <div class="tools"><${Branches} message=${message} />
      <${CopyButton} message=${message} />
      <${IconButton} name="edit" label=${t("edit")} data-action="edit" onClick=${edit} /></div>`;
}

function ToolMessage({ message }) {
  return html`<details class="result"><summary>${t("tool_result")}</summary><pre tabindex="0">${visible(message.content)}</pre></details>`;
}

function AssistantMessage({ message, isLast, edit }) {
  const [chosen, setScores] = useState(null);
  const hasScores = chosen ?? Boolean(message.scores);
  const isLive = message.state === "streaming";
  const isEmpty = !message.content && !message.thoughts && !message.calls;
  return html`
    ${message.thoughts && html`<${Thoughts} text=${message.thoughts} isOpen=${isLive && !message.content} />`}
    ${message.scores && hasScores ? html`<${Scores} scores=${message.scores} />`
      : html`<${Text} text=${message.content} isWhole=${!isLive} />`}
    ${isLive && isEmpty && html`<div class="thinking" aria-hidden="true"><i></i><i></i><i></i></div>`}
    ${message.calls && html`<${Calls} message=${message} isLast=${isLast} />`}
    ${message.state === "failed" && html`<p class="failure">${message.error}</p>`}
    <div class="tools">
      <${Branches} message=${message} />
      ${isLive ? html`<${IconButton} name="stop" label=${t("stop")} onClick=${() => stop(message)} />` : html`
        <${CopyButton} message=${message} />
        <${IconButton} name="again" label=${t("again")} data-action="again" onClick=${() => again(message)} />
        ${isLast && !message.calls && html`<${IconButton} name="on" label=${t("go_on")} data-action="go-on" onClick=${() => goOn(message)} />`}
        <${IconButton} name="edit" label=${t("edit")} data-action="edit" onClick=${edit} />`}
      ${message.scores && html`<button type="button" class="text-button" aria-pressed=${hasScores} onClick=${() => setScores(!hasScores)}>${t("scores")}</button>`}
      <${Facts} message=${message} />
    </div>`;
}

function again(message) {
  const parent = messages.value.get(message.parent);
  if (parent) answer(parent);
}

/** A text in Markdown that grows. Its nodes are the writer's, not the component's. */
function Text({ text, isWhole }) {
  const place = useRef(null);
  const writer = useRef(null);
  useLayoutEffect(() => {
    writer.current ??= new MarkdownWriter(place.current);
    writer.current.show(text, isWhole);
  }, [text, isWhole]);
  return html`<div class="prose" ref=${place}></div>`;
}

function Thoughts({ text, isOpen }) {
  return html`<details class="thoughts" open=${isOpen}><summary>${t("thoughts")}</summary>
    <div dir="auto">${visible(text)}</div></details>`;
}

function CopyButton({ message }) {
  const [isDone, setDone] = useState(false);
  useEffect(() => {
    const timer = isDone && setTimeout(() => setDone(false), 1200);
    return () => clearTimeout(timer);
  }, [isDone]);
  const copy = () => copyText(message.content).then(() => setDone(true));
  return html`<${IconButton} name="copy" label=${isDone ? t("copied") : t("copy")} class=${isDone ? "icon-button done" : "icon-button"} data-action="copy" onClick=${copy} />`;
}

/** Which of several answers, or edits, this is; steps to the others. */
function Branches({ message }) {
  const all = branches(message);
  if (all.length < 2) return null;
  const at = all.indexOf(message);
  const step = (by) => show(all[at + by]);
  return html`<span class="branches">
    <${IconButton} name="left" label=${t("branch_before")} disabled=${at === 0} onClick=${() => step(-1)} />
    <span>${at + 1} / ${all.length}</span>
    <${IconButton} name="right" label=${t("branch_after")} disabled=${at === all.length - 1} onClick=${() => step(1)} />
  </span>`;
}

function Facts({ message }) {
  const { stats = {}, finish, state } = message;
  const parts = [
    stats.speed && t("fact_speed", { speed: stats.speed.toFixed(stats.speed < 10 ? 1 : 0) }),
    stats.wait !== undefined && t("fact_wait", { wait: Math.round(stats.wait) }),
    stats.tokens && t("fact_tokens", { tokens: stats.tokens }),
    stats.cached !== undefined && t("fact_cached", { cached: stats.cached, prompt: stats.prompt }),
    state === "stopped" && t("stopped"),
    state === "done" && finish === "length" && t("finish_length"),
  ].filter(Boolean);
  return html`<span class="facts">${parts.join(" · ")}</span>`;
}

function Editor({ message, close }) {
  const field = useRef(null);
  useEffect(() => { field.current.focus(); }, []);
  const save = async () => {
    const { role, parent } = message;
    const content = field.current.value;
    close();
    const state = role === "assistant" ? { state: "done", finish: "edited" } : {};
    const changed = await add(parent, { role, content, ...state });
    if (role === "user") await answer(changed);
  };
  const onKey = (event) => {
    if (event.key === "Escape") { event.stopPropagation(); close(); }
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) save();
  };
  const rows = Math.min(20, message.content.split("\n").length + 1);
  return html`<div class="editor"><textarea ref=${field} rows=${rows} dir="auto" aria-label=${t("edit")} onKeyDown=${onKey}>${message.content}</textarea>
    <div class="actions"><button type="button" class="plain-button" onClick=${close}>${t("cancel")}</button>
    <button type="button" class="main-button" onClick=${save}>${message.role === "user" ? t("send") : t("save")}</button></div></div>`;
}
