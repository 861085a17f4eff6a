// Icons: strokes on a grid of 24.
import { html } from "../lib.js";

const PATHS = {
  plus: "M12 5v14M5 12h14",
  send: "M12 19V5M6 11l6-6 6 6",
  stop: "M7 7h10v10H7z",
  menu: "M4 7h16M4 12h16M4 17h16",
  panel: "M4 7h9M17 7h3M4 17h3M11 17h9M15 5v4M9 15v4",
  close: "M6 6l12 12M18 6L6 18",
  copy: "M9 9h10v10H9zM5 15V5h10",
  edit: "M4 20h4L19 9l-4-4L4 16z",
  again: "M20 11a8 8 0 1 0-2.3 6M20 5v6h-6",
  play: "M8 5.5l10.5 6.5L8 18.5z",
  on: "M5 5v14M10 12h10M16 8l4 4-4 4",
  left: "M14 6l-6 6 6 6",
  right: "M10 6l6 6-6 6",
  more: "M5 12h.01M12 12h.01M19 12h.01",
  search: "M11 18a7 7 0 1 0 0-14 7 7 0 0 0 0 14zM20 20l-4-4",
  chat: "M5 5h14v11H10l-5 4z",
  notebook: "M7 4h12v16H7zM4 8h3M4 12h3M4 16h3",
  board: "M4 20V10M10 20V4M16 20v-8M21 20H3",
  guide: "M4 5c3 0 6 0 8 2 2-2 5-2 8-2v13c-3 0-6 0-8 2-2-2-5-2-8-2zM12 7v13",
  key: "M14 10a4 4 0 1 0-4 4l1-1h2v-2h2l5-5v-3h-3z",
  down: "M12 5v14M6 13l6 6 6-6",
};

export function Icon({ name }) {
  return html`<svg class="icon" viewBox="0 0 24 24" aria-hidden="true"><path d=${PATHS[name]} /></svg>`;
}

/** A button that is an icon; its label is what it does. */
export function IconButton({ name, label, onClick, ...rest }) {
  return html`<button type="button" class="icon-button" aria-label=${label} title=${label}
    onClick=${onClick} ...${rest}><${Icon} name=${name} /></button>`;
}
