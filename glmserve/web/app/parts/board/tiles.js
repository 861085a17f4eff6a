// The numbers of the last seconds.
import { duration, paintLine } from "../../board/lines.js";
import { html } from "../../lib.js";
import { t } from "../../language.js";
import { Canvas } from "./canvas.js";

const share = (value) => (value === null ? "–" : `${(100 * value).toFixed(0)} %`);

export function Tiles({ view }) {
  const { numbers, stats } = view;
  const line = (read) => view.moments.map((moment) => [moment.time, read(moment)]);
  return html`<dl class="tiles">
    <${Tile} name=${t("tile_speed")} value=${numbers.speed.toFixed(0)} line=${line((m) => m.tokens * 10)} view=${view} />
    <${Tile} name=${t("tile_step")} value=${duration(numbers.step)}
      more=${[t("tile_floor", { value: duration(numbers.floor) }), t("tile_longest", { value: duration(numbers.longest) })]} />
    <${Tile} name=${t("tile_first")} value=${duration(numbers.firstHalf)} more=${[t("tile_p95", { value: duration(numbers.firstMost) })]} />
    <${Tile} name=${t("tile_gap")} value=${duration(numbers.gapHalf)} more=${[t("tile_p95", { value: duration(numbers.gapMost) })]} />
    <${Tile} name=${t("tile_requests")} value=${stats.running ?? 0} more=${[t("tile_waiting", { value: stats.waiting ?? 0 })]} />
    <${Tile} name=${t("tile_used")} value=${share(numbers.used)} more=${[t("tile_hits", { value: share(numbers.hits) })]} />
    <${Tile} name=${t("tile_preempted")} value=${stats.preemptions ?? 0} more=${[t("tile_losses", { value: view.losses.length })]} />
    ${numbers.kept !== null && html`<${Tile} name=${t("tile_kept")} value=${share(numbers.kept)} />`}
  </dl>`;
}

function Tile({ name, value, more = [], line, view }) {
  return html`<div class="tile"><dt>${name}</dt><dd>${value}</dd>
    ${more.map((text, place) => html`<dd key=${place} class="facts">${text}</dd>`)}
    ${line && html`<dd><${Canvas} hidden=${true} paint=${(canvas) => paintLine(canvas, line, view)} /></dd>`}</div>`;
}
