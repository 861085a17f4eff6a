// What is shown, by the part of the address behind #: #/chat/ID, #/notebook, #/board, #/guide/PAGE/HEADING.
import { signal } from "./lib.js";

/** A part of the address as text; what is no encoded text stays as it is. */
function decoded(part) {
  try { return decodeURIComponent(part); } catch { return part; }
}

function read() {
  const [view, id = "", place = ""] = location.hash.replace(/^#\//, "").split("/").map(decoded);
  return { view: ["notebook", "board", "guide"].includes(view) ? view : "chat", id, place };
}

export const route = signal(read());

/** Show a view; the browser's way back leads here again. */
export function go(view, ...parts) {
  const hash = ["#", view, ...parts.filter(Boolean).map(encodeURIComponent)].join("/");
  if (location.hash !== hash) history.pushState(null, "", hash);
  route.value = read();
}

addEventListener("popstate", () => { route.value = read(); });
addEventListener("hashchange", () => { route.value = read(); });
