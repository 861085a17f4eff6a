// The time of steps against their floor.
import { duration, paintSteps } from "../../board/lines.js";
import { html } from "../../lib.js";
import { t } from "../../language.js";
import { Canvas, Legend } from "./canvas.js";

export function Steps({ view }) {
  const { step, floor } = view.numbers;
  const facts = floor === null ? t("floor_unknown")
    : t("floor_share", { step: duration(step), floor: duration(floor), times: (step / floor).toFixed(2) });
  return html`<section class="card"><h2>${t("board_steps")}</h2>
    <${Legend} names=${[["mean", t("steps_mean")], ["floor", t("steps_floor")]]} />
    <${Canvas} label=${`${t("board_steps")}: ${facts}`} paint=${(canvas) => paintSteps(canvas, view)} />
    <p class="facts">${facts}</p><p class="facts">${t("floor_about")}</p></section>`;
}
