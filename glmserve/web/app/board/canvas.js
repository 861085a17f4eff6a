// What all pictures of the board need: a canvas in CSS pixels, the page's colours, the axis of time.

export const LABEL = 52; // pixels before the axis of time
export const AXIS = 18; // pixels below it

let known = new Map();
let knownFor = "";

/** The page's colours by their names, as a canvas understands them: for the theme as it is now. */
export function colours(canvas) {
  const theme = document.documentElement.style.colorScheme
    || String(matchMedia("(prefers-color-scheme: dark)").matches);
  if (theme !== knownFor) [known, knownFor] = [new Map(), theme];
  return (name) => {
    if (!known.has(name)) {
      canvas.style.color = `var(--${name})`;
      known.set(name, getComputedStyle(canvas).color);
    }
    return known.get(name);
  };
}

const widths = new WeakMap();

/** The width of a canvas in CSS pixels. It is asked for once: asking has the browser lay out the whole page. */
export function widthOf(canvas) {
  if (!widths.has(canvas)) widths.set(canvas, canvas.clientWidth);
  return widths.get(canvas);
}

/** Calls `paint` when the width has changed, until `stop` is called, which is returned. */
export function followWidth(canvas, paint) {
  const watcher = new ResizeObserver(([{ contentRect: { width } }]) => {
    if (Math.round(width) === widths.get(canvas)) return;
    widths.set(canvas, Math.round(width));
    paint();
  });
  watcher.observe(canvas);
  return () => watcher.disconnect();
}

/** A context for drawing in CSS pixels; the canvas fills the width of its box. */
export function prepared(canvas, height) {
  if (canvas.style.height !== `${height}px`) canvas.style.height = `${height}px`;
  const ratio = devicePixelRatio || 1;
  const width = widthOf(canvas);
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  context.font = "11px system-ui, sans-serif";
  return { context, width };
}

/** The place of a moment on the axis of time. */
export function timeScale(width, { now, window }) {
  return (time) => LABEL + (width - LABEL) * Math.min(1, Math.max(0, 1 - (now - time) / window));
}

export function paintTimes(context, of, x, { now, window }, height) {
  const step = window > 12 ? 10 : window > 6 ? 5 : 1;
  context.fillStyle = of("quiet");
  context.strokeStyle = of("line");
  context.lineWidth = 1;
  for (let ago = 0; ago <= window; ago += step) {
    const at = Math.min(x(now - ago), x(now) - 0.5);
    context.beginPath();
    context.moveTo(at, 0);
    context.lineTo(at, height - AXIS + 2);
    context.stroke();
    context.textAlign = ago === 0 ? "right" : "left";
    context.fillText(ago ? `−${ago} s` : "0", at, height - 4);
  }
  context.textAlign = "left";
}
