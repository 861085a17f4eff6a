// One request's phases, one below the other: each begins where the one above it ends.
import { duration } from "../../board/lines.js";
import { html, useEffect, useRef } from "../../lib.js";
import { t } from "../../language.js";
import { IconButton } from "../icons.js";

const MOST_PHASES = 40;

/** It comes into view when it is opened. */
export function Waterfall({ request, now, close }) {
  const box = useRef(null);
  useEffect(() => { box.current.scrollIntoView({ block: "nearest" }); }, []);
  const { arrival, spans } = request;
  const whole = Math.max(1e-6, (request.end ?? now) - arrival);
  const percent = (time) => `${(100 * Math.min(1, Math.max(0, (time - arrival) / whole))).toFixed(2)}%`;
  const hidden = Math.max(0, spans.length - MOST_PHASES);
  return html`<div ref=${box} class="waterfall"><h3>${t("waterfall_of", { id: request.id })}</h3>
    <${IconButton} name="close" label=${t("close")} onClick=${close} /><ol>
    ${hidden > 0 && html`<li class="facts">${t("earlier_phases", { count: hidden })}</li>`}
    ${spans.slice(hidden).map((span) => html`<${Phase} key=${span.begin} span=${span} percent=${percent} />`)}
    <li><span class="phase">${request.isLive ? t("end_running") : t("end")}</span>
      <span class="track"><i class="bar-part end" style=${{ left: percent(request.end ?? now) }}></i></span>
      <span>${duration(whole)}</span>
      <span class="facts">${request.isLive ? "" : t(`end_${request.reason}`)}</span></li>
  </ol></div>`;
}

function Phase({ span: { kind, begin, end, tokens }, percent }) {
  const style = { left: percent(begin), right: `calc(100% - ${percent(end)})` };
  return html`<li><span class="phase"><i class=${`swatch lane-${kind}`}></i>${t(`lane_${kind}`)}</span>
    <span class="track"><i class=${`bar-part lane-${kind}`} style=${style}></i></span>
    <span>${duration(end - begin)}</span>
    <span class="facts">${tokens ? t("fact_tokens", { tokens }) : ""}</span></li>`;
}
