// The board: what the engine does at this moment.
import { adminKey, board, followBoard, setAdminKey } from "../board/feed.js";
import { hueOfName, paintBlocks, paintLanes, paintLine } from "../board/painting.js";
import { readRecording } from "../board/recording.js";
import { html, useEffect, useLayoutEffect, useRef, useSignal, useState } from "../lib.js";
import { t } from "../language.js";
import { RecordingPlayer } from "./recording.js";

const MOST_LANES = 40;
const MOST_ROWS = 100;

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
  const numbers = view.numbers;
  const { stats } = view;
  const line = (read) => view.moments.map((moment) => [moment.time, read(moment)]);
  const ms = (seconds) => (seconds === null ? "–" : `${(seconds * 1000).toFixed(seconds < 0.1 ? 1 : 0)} ms`);
  const share = (value) => (value === null ? "–" : `${(100 * value).toFixed(0)} %`);
  return html`
    <dl class="tiles">
      <${Tile} name=${t("tile_speed")} value=${numbers.speed.toFixed(0)} line=${line((m) => m.tokens * 10)} view=${view} />
      <${Tile} name=${t("tile_step")} value=${ms(numbers.step)} more=${t("tile_longest", { value: ms(numbers.longest) })}
        line=${line((m) => (m.steps ? m.step_seconds / m.steps : 0))} view=${view} />
      <${Tile} name=${t("tile_first")} value=${ms(numbers.firstHalf)} more=${t("tile_p95", { value: ms(numbers.firstMost) })} />
      <${Tile} name=${t("tile_gap")} value=${ms(numbers.gapHalf)} more=${t("tile_p95", { value: ms(numbers.gapMost) })} />
      <${Tile} name=${t("tile_requests")} value=${stats.running ?? 0} more=${t("tile_waiting", { value: stats.waiting ?? 0 })} />
      <${Tile} name=${t("tile_used")} value=${share(numbers.used)} more=${t("tile_hits", { value: share(numbers.hits) })} />
      <${Tile} name=${t("tile_preempted")} value=${stats.preemptions ?? 0} more=${t("tile_losses", { value: view.losses.length })} />
      ${numbers.kept !== null && html`<${Tile} name=${t("tile_kept")} value=${share(numbers.kept)} />`}
    </dl>
    <section class="card"><h2>${t("board_lanes", { seconds: view.window })}</h2><${Legend} kinds=${["queue", "prefill", "decode", "recompute", "paused"]} />
      <${Canvas} label=${t("board_lanes", { seconds: view.window })} paint=${(canvas) => paintLanes(canvas, view, MOST_LANES)} /></section>
    <${Blocks} view=${view} />
    <${Requests} view=${view} />`;
}

function Tile({ name, value, more, line, view }) {
  return html`<div class="tile"><dt>${name}</dt><dd>${value}</dd>${more && html`<dd class="facts">${more}</dd>`}
    ${line && html`<dd><${Canvas} hidden=${true} paint=${(canvas) => paintLine(canvas, line, view)} /></dd>`}</div>`;
}

/** A picture that is painted anew whenever the component is drawn. */
function Canvas({ label, hidden, paint }) {
  const canvas = useRef(null);
  useLayoutEffect(() => { paint(canvas.current); });
  return html`<canvas ref=${canvas} role="img" aria-label=${label ?? ""} aria-hidden=${hidden ? "true" : null}></canvas>`;
}

function Legend({ kinds }) {
  return html`<ul class="legend">${kinds.map((kind) => html`<li key=${kind}><i class=${`swatch ${kind}`}></i>${t(`lane_${kind}`)}</li>`)}</ul>`;
}

const OWNERS = ["request", "tenant", "adapter"];

function Blocks({ view }) {
  const [by, setBy] = useState("request");
  const names = {
    request: (one) => String(one.id), tenant: (one) => one.tenant, adapter: (one) => String(one.adapter_id),
  };
  const hueOf = (id) => {
    const request = view.requests.get(id);
    return hueOfName(request ? names[by](request) : String(id));
  };
  return html`<section class="card"><h2>${t("board_blocks")}</h2>
    <div class="bar"><label>${t("colour_by")} <select value=${by} onChange=${(event) => setBy(event.target.value)}>
      ${OWNERS.map((name) => html`<option key=${name} value=${name}>${t(`owner_${name}`)}</option>`)}</select></label>
      <ul class="legend"><li><i class="swatch known"></i>${t("block_known")}</li><li><i class="swatch free"></i>${t("block_free")}</li></ul></div>
    <${Canvas} label=${t("board_blocks")} paint=${(canvas) => paintBlocks(canvas, view.blocks, hueOf)} />
    <p class="facts">${t("board_size", { blocks: view.numBlocks ?? 0, size: view.blockSize ?? 0 })}</p></section>`;
}

function Requests({ view }) {
  const rows = [...view.requests.values()].sort((a, b) => (a.end ?? Infinity) === (b.end ?? Infinity)
    ? a.id - b.id : (b.end ?? Infinity) - (a.end ?? Infinity)).slice(0, MOST_ROWS);
  const state = (one) => one.reason ?? (one.begun ? t(`lane_${one.spans[one.spans.length - 1][0]}`) : t("lane_queue"));
  const seconds = (one) => `${((one.end ?? view.now) - one.arrival).toFixed(1)} s`;
  const heads = ["request", "tenant", "priority", "state", "prompt", "cached", "output", "age"];
  return html`<section class="card"><h2>${t("board_requests")}</h2>
    <div class="table" tabindex="0" role="region" aria-label=${t("board_requests")}><table>
      <thead><tr>${heads.map((name) => html`<th key=${name} scope="col">${t(`column_${name}`)}</th>`)}</tr></thead>
      <tbody>${rows.map((one) => html`<tr key=${one.id} class=${one.end === undefined ? "" : "over"}>
        <th scope="row">#${one.id}</th><td>${one.tenant || "–"}</td><td>${one.priority}</td><td>${state(one)}</td>
        <td>${one.prompt_tokens}</td><td>${one.cached}</td><td>${one.output}</td><td>${seconds(one)}</td></tr>`)}</tbody>
    </table></div></section>`;
}
