// A conversation: its messages, and the field for the next one.
import { chat, messages, path } from "../chats.js";
import { later } from "../later.js";
import { html, useEffect, useLayoutEffect, useRef, useSignal, useState } from "../lib.js";
import { t } from "../language.js";
import { Composer } from "./composer.js";
import { IconButton } from "./icons.js";

const Messages = later(() => import("./messages.js"), "Messages", "messages");
const AT_FIRST = 40; // messages that are drawn; earlier ones when they are asked for
const MORE = 100;
const NEAR = 120; // pixels from the end within which new text keeps the end in view

export function ChatView() {
  const open = useSignal(chat);
  useSignal(messages);
  const shown = path();
  return html`
    ${shown.length > 0 && html`<h1 class="unseen">${open.title}</h1>`}
    <${Scroller} key=${open?.id ?? "new"} list=${shown} />
    <${Composer} key=${`composer ${open?.id ?? "new"}`} id=${open?.id ?? "new"} list=${shown} />`;
}

function Scroller({ list }) {
  const box = useRef(null);
  const isAtEnd = useRef(true);
  const [count, setCount] = useState(AT_FIRST);
  const [isAway, setAway] = useState(false);
  const toEnd = () => { box.current.scrollTop = box.current.scrollHeight; };
  const onScroll = () => {
    const { scrollTop, scrollHeight, clientHeight } = box.current;
    isAtEnd.current = scrollHeight - scrollTop - clientHeight < NEAR;
    setAway(!isAtEnd.current);
  };
  useLayoutEffect(() => { isAtEnd.current = true; toEnd(); }, [list.length, list[list.length - 1]?.id]);
  useEffect(() => {
    const watcher = new ResizeObserver(() => isAtEnd.current && toEnd());
    watcher.observe(box.current.firstChild);
    return () => watcher.disconnect();
  }, []);
  const more = () => {
    const before = box.current.scrollHeight - box.current.scrollTop;
    setCount(count + MORE);
    requestAnimationFrame(() => { box.current.scrollTop = box.current.scrollHeight - before; });
  };
  return html`<div class="scroller" ref=${box} onScroll=${onScroll} tabindex="0" role="region" aria-label=${t("conversation")}>
    <div class="messages">
      ${list.length > count && html`<button type="button" class="plain-button earlier" onClick=${more}>${t("earlier", { count: list.length - count })}</button>`}
      ${list.length ? html`<${Messages} list=${list.slice(-count)} />` : html`<${Welcome} />`}
    </div>
  </div>
  ${isAway && html`<div class="to-end"><${IconButton} name="down" label=${t("to_end")} onClick=${toEnd} /></div>`}`;
}

function Welcome() {
  return html`<div class="welcome"><span class="mark large" aria-hidden="true"></span><h1>${t("welcome")}</h1></div>`;
}
