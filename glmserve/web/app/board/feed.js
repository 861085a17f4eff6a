// The stream of /board/events.
import { ServerError } from "../api.js";
import { eventsOf } from "../events.js";
import { keptValue } from "../kept.js";
import { signal } from "../lib.js";
import { apiKey, headersWith } from "../key.js";
import { look } from "../server.js";
import { StepFloor } from "./floor.js";
import { BoardView } from "./view.js";

const AGAIN = 1000; // milliseconds until the server is asked again

/** status: connecting, live, refused; now: the server's clock at the last moment. */
export const board = signal({ status: "connecting" });
export const adminKey = signal(keptValue.read(sessionStorage, "admin_key") ?? "");

export function setAdminKey(key) {
  keptValue.write(sessionStorage, "admin_key", key || null);
  adminKey.value = key;
}

/** Read until `stop` is aborted. */
export async function followBoard(stop) {
  const floor = new StepFloor();
  while (!stop.aborted) {
    try {
      await readOnce(new BoardView(floor), stop);
    } catch (error) {
      const isRefused = error instanceof ServerError && [401, 403].includes(error.status);
      if (isRefused) return void (board.value = { status: "refused", reason: error.message });
    }
    if (stop.aborted) return;
    look();
    await new Promise((go) => setTimeout(go, AGAIN));
  }
}

async function readOnce(view, stop) {
  const headers = headersWith(adminKey.value || apiKey.value);
  const response = await fetch("board/events", { headers, signal: stop, cache: "no-store" });
  if (!response.ok) {
    throw new ServerError(response.status, (await response.json().catch(() => null))?.error);
  }
  for await (const { data } of eventsOf(response.body)) {
    const moment = JSON.parse(data);
    view.take(moment);
    if (moment.lost_workers) look(); // the page says that the worker restarts
    board.value = { status: "live", view, now: view.now };
  }
}
