// The map of the blocks: a cell for each, coloured by its holder, with marks of what the prefix cache did.
import { colours, prepared, widthOf } from "./canvas.js";

const AREA = 150; // pixels of height that the map should fill
const LEAST = 3; // pixels of a cell
const MOST = 20;
const ROOM = 6; // pixels of a cell that a mark needs; a smaller cell has the mark's colour

/** `hueOf` says the hue of a holder, by its id; `isPale`, whether a cell is painted pale. */
export function paintBlocks(canvas, view, hueOf, isPale) {
  const { blocks, marks } = view;
  const width = widthOf(canvas);
  const size = Math.max(LEAST, Math.min(MOST, Math.floor(Math.sqrt((width * AREA) / Math.max(1, blocks.length)))));
  const columns = Math.max(1, Math.floor(width / size));
  const { context } = prepared(canvas, Math.ceil(blocks.length / columns) * size + 1);
  const of = colours(canvas);
  const place = (cell) => [(cell % columns) * size, Math.floor(cell / columns) * size];
  blocks.forEach((owner, cell) => {
    const [x, y] = place(cell);
    context.fillStyle = owner >= 0 ? `hsl(${hueOf(owner)} 62% 55%)` : of(owner === -2 ? "block-known" : "block-free");
    context.globalAlpha = owner >= 0 && isPale(cell) ? 0.35 : 1;
    context.fillRect(x, y, size - 1, size - 1);
  });
  context.globalAlpha = 1;
  marks.forEach((mark, cell) => {
    context.globalAlpha = view.visibility(mark);
    paintMark(context, of, mark.kind, ...place(cell), size);
  });
  context.globalAlpha = 1;
}

function paintMark(context, of, kind, x, y, size) {
  const colour = of(kind === "hit" ? "block-hit" : "block-evicted");
  if (size < ROOM) {
    context.fillStyle = colour;
    context.fillRect(x, y, size - 1, size - 1);
    return;
  }
  const middle = (size - 1) / 2;
  context.beginPath();
  if (kind === "hit") context.arc(x + middle, y + middle, middle - 1, 0, 2 * Math.PI);
  else {
    context.moveTo(x + 1, y + 1);
    context.lineTo(x + size - 2, y + size - 2);
    context.moveTo(x + size - 2, y + 1);
    context.lineTo(x + 1, y + size - 2);
  }
  context.lineWidth = 3.5;
  context.strokeStyle = of("back");
  context.stroke();
  context.lineWidth = 1.8;
  context.strokeStyle = colour;
  context.stroke();
}

/** A hue for a name; equal names have equal hues. */
export function hueOfName(name) {
  let hash = 7;
  for (const letter of name) hash = (hash * 31 + letter.codePointAt(0)) % 360;
  return (hash * 137) % 360;
}
