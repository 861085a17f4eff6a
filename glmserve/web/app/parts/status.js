// A line that says when the server is not ready, and why.
import { html, useSignal } from "../lib.js";
import { t } from "../language.js";
import { health } from "../server.js";

const SILENT = new Set(["ready", "unknown"]);

export function StatusBar() {
  const { status, progress, reason } = useSignal(health);
  if (SILENT.has(status)) return null;
  const share = progress === undefined ? "" : ` ${Math.round(progress * 100)} %`;
  const known = ["loading", "restarting", "draining", "dead", "unreachable"];
  const text = known.includes(status) ? t(`status_${status}`) : status;
  return html`<div class=${`status ${status}`} role="status">
    <span class="pulse" aria-hidden="true"></span>${text}${share}${reason ? ` — ${reason}` : ""}
  </div>`;
}
