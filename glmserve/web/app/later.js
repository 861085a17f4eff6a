// Parts of the page that are loaded when they are shown, or when the browser has nothing else to do.
import { html, useEffect, useState } from "./lib.js";
import { t } from "./language.js";

const all = [];

/** A component of a module; `load` imports the module. `id` is that of the element by which it is reached. */
export function later(load, name, id) {
  let loading = null;
  let part = null;
  const read = async () => { part = (await load())[name]; };
  const once = () => (loading ??= read().catch((error) => { loading = null; throw error; }));
  all.push(once);
  return function Later(props) {
    const [state, setState] = useState(part ? "loaded" : "loading");
    useEffect(() => {
      if (state === "loading") once().then(() => setState("loaded"), () => setState("failed"));
    }, []);
    if (state === "loaded") return html`<${part} ...${props} />`;
    return state === "failed" ? html`<${Failed} id=${id} />` : null;
  };
}

/** The server is gone, or is another version now, which has other files. */
export function Failed({ id }) {
  return html`<div id=${id} class="welcome" tabindex="-1"><h1>${t("view_failed")}</h1>
    <button type="button" class="plain-button" onClick=${() => location.reload()}>${t("load_again")}</button></div>`;
}

/** Load all of them, so that they open at once, and without a server. */
export function loadRest() {
  const idle = globalThis.requestIdleCallback ?? ((go) => setTimeout(go, 500));
  idle(() => all.forEach((once) => once().catch(() => {})));
}
