// One lane for each request, the newest first: its phases over time.
import { AXIS, LABEL, colours, paintTimes, prepared, timeScale } from "./canvas.js";

const LANE = 14; // pixels
const GAP = 3;

/** Paints at most `most` lanes; that of request `chosen` is marked. */
export function paintLanes(canvas, view, most, chosen) {
  const lanes = view.shown(most, view.now - view.window);
  const height = Math.max(1, lanes.length) * (LANE + GAP) + AXIS;
  const { context, width } = prepared(canvas, height);
  const of = colours(canvas);
  const x = timeScale(width, view);
  paintTimes(context, of, x, view, height);
  lanes.forEach((request, row) => {
    const y = row * (LANE + GAP);
    context.fillStyle = of(request.id === chosen ? "accent" : "quiet");
    context.font = `${request.id === chosen ? "700 " : ""}11px system-ui, sans-serif`;
    context.fillText(`#${request.id}`, 0, y + LANE - 3);
    for (const { kind, begin, end } of request.spans) {
      if (end < view.now - view.window) continue;
      context.fillStyle = of(`lane-${kind}`);
      context.fillRect(x(begin), y, Math.max(1, x(end) - x(begin)), LANE);
    }
  });
  context.fillStyle = of("danger");
  view.losses.forEach((time) => context.fillRect(x(time), 0, 2, height - AXIS));
}

/** The id of the request whose lane is at this height of the picture, in pixels. */
export function requestAt(view, most, y) {
  return view.shown(most, view.now - view.window)[Math.floor(y / (LANE + GAP))]?.id;
}
