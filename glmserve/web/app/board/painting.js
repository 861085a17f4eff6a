// What the board draws: lanes over time, the map of blocks, a line. Colours are those of the page.

const LANE = 14; // pixels
const GAP = 3;
const LABEL = 44;

let known = new Map();
let knownFor = "";

/** The page's colours by their names, as a canvas understands them: for the theme as it is now. */
function colours(canvas) {
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

/** A context for drawing in CSS pixels; the canvas fills its box. */
function prepared(canvas, height) {
  const ratio = devicePixelRatio || 1;
  const width = canvas.clientWidth;
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

/** One lane for each request, the newest first: queue, prefill, decode, pauses. */
export function paintLanes(canvas, view, most) {
  const shown = [...view.requests.values()].filter((one) => (one.end ?? Infinity) > view.now - view.window);
  const lanes = shown.sort((a, b) => b.id - a.id).slice(0, most);
  const height = Math.max(1, lanes.length) * (LANE + GAP) + 18;
  canvas.style.height = `${height}px`;
  const { context, width } = prepared(canvas, height);
  const of = colours(canvas);
  const x = (time) => LABEL + (width - LABEL) * Math.max(0, 1 - (view.now - time) / view.window);
  paintTimes(context, of, x, view, height);
  lanes.forEach((request, row) => {
    const y = row * (LANE + GAP);
    context.fillStyle = of("quiet");
    context.fillText(`#${request.id}`, 0, y + LANE - 3);
    let begin = request.arrival;
    const end = request.end ?? view.now;
    for (const [kind, until] of request.spans.length ? request.spans : [["queue", end]]) {
      context.fillStyle = of(`lane-${kind}`);
      context.fillRect(x(begin), y, Math.max(1, x(until) - x(begin)), LANE);
      begin = until;
    }
  });
  context.fillStyle = of("danger");
  view.losses.forEach((time) => context.fillRect(x(time), 0, 2, height - 18));
  return lanes.length;
}

function paintTimes(context, of, x, { now, window }, height) {
  const step = window > 12 ? 10 : window > 6 ? 5 : 1;
  context.fillStyle = of("quiet");
  context.strokeStyle = of("line");
  for (let ago = 0; ago <= window; ago += step) {
    const at = Math.min(x(now - ago), x(now) - 0.5);
    context.beginPath();
    context.moveTo(at, 0);
    context.lineTo(at, height - 16);
    context.stroke();
    context.textAlign = ago === 0 ? "right" : "left";
    context.fillText(ago ? `−${ago} s` : "0", at, height - 4);
  }
  context.textAlign = "left";
}

/** A cell for each block, coloured by its holder. */
export function paintBlocks(canvas, blocks, hueOf) {
  const width = canvas.clientWidth;
  const size = Math.max(3, Math.min(12, Math.floor(Math.sqrt((width * 150) / Math.max(1, blocks.length)))));
  const columns = Math.max(1, Math.floor(width / size));
  const height = Math.ceil(blocks.length / columns) * size + 1;
  canvas.style.height = `${height}px`;
  const { context } = prepared(canvas, height);
  const of = colours(canvas);
  blocks.forEach((owner, index) => {
    const hue = owner >= 0 ? hueOf(owner) : null;
    context.fillStyle = hue === null ? of(owner === -2 ? "block-known" : "block-free") : `hsl(${hue} 62% 55%)`;
    context.fillRect((index % columns) * size, Math.floor(index / columns) * size, size - 1, size - 1);
  });
}

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
  context.beginPath();
  shown.forEach(([time, value], index) => context[index ? "lineTo" : "moveTo"](x(time), y(value)));
  context.strokeStyle = of("accent");
  context.lineWidth = 1.5;
  context.stroke();
  context.lineTo(x(shown[shown.length - 1][0]), height);
  context.lineTo(x(shown[0][0]), height);
  context.globalAlpha = 0.12;
  context.fillStyle = of("accent");
  context.fill();
  context.globalAlpha = 1;
}

/** A hue for a name; equal names have equal hues. */
export function hueOfName(name) {
  let hash = 7;
  for (const letter of name) hash = (hash * 31 + letter.codePointAt(0)) % 360;
  return (hash * 137) % 360;
}
