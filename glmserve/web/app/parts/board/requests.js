// All requests as a table. The number of each opens its waterfall, below the lanes.
import { html } from "../../lib.js";
import { t } from "../../language.js";

const MOST_ROWS = 100;
const HEADS = ["request", "tenant", "priority", "state", "prompt", "cached", "output", "age"];

export function Requests({ view, chosen, choose }) {
  const rows = view.shown(MOST_ROWS);
  const reached = rows.some((one) => one.id === chosen) ? chosen : rows[0]?.id;
  return html`<section class="card"><h2>${t("board_requests")}</h2>
    <div class="table" tabindex="0" role="region" aria-label=${t("board_requests")} onKeyDown=${moveFocus}><table>
      <thead><tr>${HEADS.map((name) => html`<th key=${name} scope="col">${t(`column_${name}`)}</th>`)}</tr></thead>
      <tbody>${rows.map((one) => html`<${Row} key=${one.id} request=${one} now=${view.now} isChosen=${one.id === chosen}
        isReached=${one.id === reached} toggle=${() => choose(one.id === chosen ? null : one.id)} />`)}</tbody>
    </table></div>
    <p class="facts">${t(rows.length ? "requests_about" : "no_requests")}</p></section>`;
}

/** The Tab key reaches one request; the arrow keys go from there to the others. */
function moveFocus(event) {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  const buttons = [...event.currentTarget.querySelectorAll("tbody button")];
  const place = buttons.indexOf(event.target);
  if (!step || place < 0) return;
  event.preventDefault();
  buttons[place + step]?.focus();
}

function Row({ request: one, now, isChosen, isReached, toggle }) {
  const state = one.isLive ? t(`lane_${one.kind}`) : t(`end_${one.reason}`);
  const seconds = `${((one.end ?? now) - one.arrival).toFixed(1)} s`;
  return html`<tr class=${one.isLive ? "" : "over"}>
    <th scope="row"><button type="button" class="text-button" tabindex=${isReached ? 0 : -1} aria-pressed=${isChosen}
      aria-label=${t("waterfall_of", { id: one.id })} onClick=${toggle}>#${one.id}</button></th>
    <td>${one.tenant || "–"}</td><td>${one.priority}</td><td>${state}</td>
    <td>${one.prompt_tokens}</td><td>${one.cached}</td><td>${one.output}</td><td>${seconds}</td></tr>`;
}
