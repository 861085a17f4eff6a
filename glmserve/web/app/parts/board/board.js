// The board: what the engine does at this moment, or did when a recording was made.
import { adminKey, board, followBoard, setAdminKey } from "../../board/feed.js";
import { readRecording } from "../../board/recording.js";
import { html, useEffect, useRef, useSignal, useState } from "../../lib.js";
import { t } from "../../language.js";
import { Blocks } from "./blocks.js";
import { Lanes } from "./lanes.js";
import { RecordingPlayer } from "./player.js";
import { Requests } from "./requests.js";
import { Steps } from "./steps.js";
import { Tiles } from "./tiles.js";

export function BoardView() {
  const [opened, setOpened] = useState(null);
  const show = (view) => html`<${Picture} view=${view} />`;
  return html`<div id="board" class="board" tabindex="0" role="region" aria-label=${t("board")}>
    <h1 class="unseen">${t("board")}</h1>
    ${opened ? html`<${RecordingPlayer} ...${opened} close=${() => setOpened(null)} show=${show} />`
      : html`<${Live} /><${RecordingButton} open=${setOpened} />`}
  </div>`;
}

function Live() {
  const key = useSignal(adminKey);
  const { status, view, reason } = useSignal(board);
  useEffect(() => {
    const controller = new AbortController();
    followBoard(controller.signal);
    return () => controller.abort();
  }, [key]);
  if (status === "refused") return html`<${KeyForm} reason=${reason} />`;
  if (status === "connecting") return html`<p class="none">${t("board_connecting")}</p>`;
  return html`<${Picture} view=${view} />`;
}

function RecordingButton({ open }) {
  const file = useRef(null);
  const read = async (event) => {
    const [chosen] = event.target.files;
    event.target.value = "";
    try {
      open({ recording: readRecording(await chosen.arrayBuffer()), name: chosen.name });
    } catch { alert(t("bad_recording")); }
  };
  return html`<p><button type="button" class="plain-button" onClick=${() => file.current.click()}>${t("open_recording")}</button>
    <input ref=${file} type="file" hidden onChange=${read} /></p>`;
}

function KeyForm({ reason }) {
  const submit = (event) => {
    event.preventDefault();
    setAdminKey(new FormData(event.target).get("key").trim());
  };
  return html`<form class="card" onSubmit=${submit}>
    <h2>${t("admin_key")}</h2><p>${reason}</p>
    <input name="key" type="password" autocomplete="off" aria-label=${t("admin_key")} />
    <div class="actions"><button class="main-button">${t("use_key")}</button></div></form>`;
}

function Picture({ view }) {
  const [chosen, choose] = useState(null);
  view.pinned = chosen;
  return html`
    <${Tiles} view=${view} />
    <${Lanes} view=${view} chosen=${chosen} choose=${choose} />
    <${Requests} view=${view} chosen=${chosen} choose=${choose} />
    <${Steps} view=${view} />
    <${Blocks} view=${view} />`;
}
