// A picture that is painted anew whenever its component is drawn, and when its width changes.
import { followWidth } from "../../board/canvas.js";
import { html, useEffect, useLayoutEffect, useRef } from "../../lib.js";

export function Canvas({ label, hidden, paint, ...rest }) {
  const canvas = useRef(null);
  const latest = useRef(paint);
  latest.current = paint;
  useLayoutEffect(() => { paint(canvas.current); });
  useEffect(() => followWidth(canvas.current, () => latest.current(canvas.current)), []);
  return html`<canvas ref=${canvas} role="img" aria-label=${label ?? ""} aria-hidden=${hidden ? "true" : null} ...${rest}></canvas>`;
}

/** What colours mean; `names` are classes of swatches, each with the key of its text. */
export function Legend({ names }) {
  return html`<ul class="legend">${names.map(([kind, text]) => html`<li key=${kind}><i class=${`swatch ${kind}`}></i>${text}</li>`)}</ul>`;
}
