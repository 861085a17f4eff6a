// How likely each token was, as colours; the alternatives of the one that is pointed at.
import { html, useState } from "../lib.js";
import { t } from "../language.js";
import { visible } from "../markdown.js";

const STEPS = 5; // shades

export function Scores({ scores }) {
  const [at, setAt] = useState(null);
  const shown = at === null ? null : scores[at];
  const move = (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!by) return;
    event.preventDefault();
    setAt(Math.min(scores.length - 1, Math.max(0, (at ?? -1) + by)));
  };
  const point = (event) => {
    const { place } = event.target.dataset;
    if (place !== undefined) setAt(Number(place));
  };
  return html`<div class="scores">
    <div class="tokens" tabindex="0" role="group" aria-label=${t("scores_about")} onKeyDown=${move} onMouseOver=${point} onClick=${point}>
      ${scores.map((one, index) => html`<span key=${index} data-place=${index}
        class=${`token p${shade(one.logprob)}${index === at ? " chosen" : ""}`}>${visible(one.token)}</span>`)}
    </div>
    <div class="alternatives" role="status">${shown ? html`<${Alternatives} one=${shown} />` : t("scores_hint")}</div>
  </div>`;
}

function Alternatives({ one }) {
  const all = one.top.some(([token]) => token === one.token) ? one.top : [[one.token, one.logprob], ...one.top];
  return html`<table><caption class="unseen">${t("alternatives")}</caption><tbody>${all.map(([token, logprob], index) => html`<tr key=${index} class=${token === one.token ? "taken" : ""}>
    <th scope="row"><code>${spelled(token)}</code></th>
    <td><meter min="0" max="1" value=${Math.exp(logprob)} aria-label=${t("probability")}></meter></td>
    <td class="number">${percent(logprob)}</td></tr>`)}</tbody></table>`;
}

const shade = (logprob) => Math.min(STEPS - 1, Math.floor((1 - Math.exp(logprob)) * STEPS));
const spelled = (token) => visible(token).replace(/\n/g, "⏎").replace(/ /g, "␣") || "∅";
const percent = (logprob) => `${(100 * Math.exp(logprob)).toFixed(1)} %`;
