// The last seconds: a lane for each request. A click on one opens its waterfall.
import { paintLanes, requestAt } from "../../board/lanes.js";
import { html } from "../../lib.js";
import { t } from "../../language.js";
import { Canvas, Legend } from "./canvas.js";
import { Waterfall } from "./waterfall.js";

const MOST_LANES = 40;
const KINDS = ["queue", "prefill", "decode", "preempted", "recompute", "restart", "paused"];

export function Lanes({ view, chosen, choose }) {
  const request = view.requests.get(chosen);
  const label = t("board_lanes", { seconds: view.window });
  const onClick = (event) => {
    const id = requestAt(view, MOST_LANES, event.offsetY);
    if (id !== undefined) choose(id === chosen ? null : id);
  };
  return html`<section class="card"><h2>${label}</h2>
    <${Legend} names=${KINDS.map((kind) => [`lane-${kind}`, t(`lane_${kind}`)])} />
    <${Canvas} label=${label} class="lanes" onClick=${onClick} paint=${(canvas) => paintLanes(canvas, view, MOST_LANES, chosen)} />
    ${request && html`<${Waterfall} key=${request.id} request=${request} now=${view.now} close=${() => choose(null)} />`}
    ${view.requests.size === 0 && html`<p class="facts">${t("no_requests")}</p>`}</section>`;
}
