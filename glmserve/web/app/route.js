// What is shown, by the part of the address behind #: #/chat/ID, #/notebook, #/guide/PAGE.
import { signal } from "./lib.js";

function read() {
  const [view, id = ""] = location.hash.replace(/^#\//, "").split("/");
  return { view: ["notebook", "guide"].includes(view) ? view : "chat", id: decodeURIComponent(id) };
}

export const route = signal(read());

/** Show a view; the browser's way back leads here again. */
export function go(view, id = "") {
  const hash = `#/${view}${id ? `/${encodeURIComponent(id)}` : ""}`;
  if (location.hash !== hash) history.pushState(null, "", hash);
  route.value = read();
}

addEventListener("popstate", () => { route.value = read(); });
addEventListener("hashchange", () => { route.value = read(); });
