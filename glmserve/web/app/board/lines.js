// Values over time: small lines in tiles, and the time of steps above their floor.
import { AXIS, colours, paintTimes, prepared, timeScale } from "./canvas.js";

/** A line over the time of the lanes; `values` are [time, value]. */
export function paintLine(canvas, values, { now, window }) {
  const height = 40;
  const { context, width } = prepared(canvas, height);
  const of = colours(canvas);
  const largest = Math.max(1e-9, ...values.map(([, value]) => value));
  const x = (time) => width * Math.max(0, 1 - (now - time) / window);
  const y = (value) => height - 2 - (height - 6) * (value / largest);
  const shown = values.filter(([time]) => time > now - window);
  if (!shown.length) return;
  context.strokeStyle = of("accent");
  context.lineWidth = 1.5;
  trace(context, shown, x, y);
  context.lineTo(x(shown[shown.length - 1][0]), height);
  context.lineTo(x(shown[0][0]), height);
  context.globalAlpha = 0.12;
  context.fillStyle = of("accent");
  context.fill();
  context.globalAlpha = 1;
}

/** The mean time of the steps of each moment, and their floor, dashed, where it is known. */
export function paintSteps(canvas, view) {
  const height = 110;
  const { context, width } = prepared(canvas, height);
  const of = colours(canvas);
  const x = timeScale(width, view);
  paintTimes(context, of, x, view, height);
  const moments = view.moments.filter((one) => one.steps && one.time > view.now - view.window);
  const means = moments.map((one) => [one.time, one.step_seconds / one.steps]);
  const floors = moments.map((one) => [one.time, view.floor.of(one) / one.steps]).filter(([, value]) => value);
  const largest = Math.max(1e-4, ...means.map(([, value]) => value), ...floors.map(([, value]) => value));
  const y = (value) => height - AXIS - (height - AXIS - 12) * (value / largest);
  context.fillStyle = of("quiet");
  context.fillText(duration(largest), 0, 12);
  context.fillText("0", 0, height - AXIS);
  context.strokeStyle = of("accent");
  context.lineWidth = 1.5;
  trace(context, means, x, y);
  context.strokeStyle = of("floor");
  context.setLineDash([5, 3]);
  trace(context, floors, x, y);
  context.setLineDash([]);
}

function trace(context, points, x, y) {
  context.beginPath();
  points.forEach(([time, value], index) => context[index ? "lineTo" : "moveTo"](x(time), y(value)));
  context.stroke();
}

/** Seconds as a text, in milliseconds if there are few. */
export function duration(seconds) {
  if (seconds === null) return "–";
  return seconds < 1 ? `${(seconds * 1000).toFixed(seconds < 0.1 ? 1 : 0)} ms` : `${seconds.toFixed(2)} s`;
}
