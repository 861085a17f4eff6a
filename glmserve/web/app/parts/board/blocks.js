// The blocks of the KV cache: who holds them, and what the prefix cache finds and loses.
import { hueOfName, paintBlocks } from "../../board/blocks.js";
import { html, useState } from "../../lib.js";
import { t } from "../../language.js";
import { Canvas, Legend } from "./canvas.js";

const OWNERS = ["request", "tenant", "adapter", "prefix"];

export function Blocks({ view }) {
  const [by, setBy] = useState("request");
  const isByPrefix = by === "prefix";
  const names = {
    request: (one) => String(one.id), tenant: (one) => one.tenant, adapter: (one) => String(one.adapter_id),
    prefix: (one) => String(view.roots.get(one.id)),
  };
  const hueOf = (id) => {
    const request = view.requests.get(id);
    return hueOfName(request ? names[by](request) : String(id));
  };
  const isPale = (cell) => isByPrefix && !view.shared.has(cell);
  const kinds = ["known", "free", "hit", "evicted"].map((kind) => [kind, t(`block_${kind}`)]);
  return html`<section class="card"><h2>${t("board_blocks")}</h2>
    <div class="bar"><label>${t("colour_by")} <select value=${by} onChange=${(event) => setBy(event.target.value)}>
      ${OWNERS.map((name) => html`<option key=${name} value=${name}>${t(`owner_${name}`)}</option>`)}</select></label>
      <${Legend} names=${kinds} /></div>
    <${Canvas} label=${t("board_blocks")} paint=${(canvas) => paintBlocks(canvas, view, hueOf, isPale)} />
    ${isByPrefix && html`<p class="facts">${t("prefix_about")}</p>`}
    <${Numbers} view=${view} /></section>`;
}

function Numbers({ view: { numBlocks = 0, blockSize = 0, shared, stats } }) {
  const facts = [
    t("board_size", { blocks: numBlocks, size: blockSize }), t("blocks_shared", { count: shared.size }),
    t("blocks_hits", { hits: stats.prefix_hits ?? 0, queries: stats.prefix_queries ?? 0 }),
    t("blocks_evictions", { count: stats.evictions ?? 0 }),
  ];
  return html`<p class="facts">${facts.join(" · ")}</p>`;
}
