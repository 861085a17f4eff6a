// What the server says about itself: its state, its models, its defaults.
import { getJson } from "./api.js";
import { apiKey } from "./key.js";
import { effect, signal } from "./lib.js";

/** status: unknown, unreachable, or one of /health: loading, ready, restarting, draining, dead. */
export const health = signal({ status: "unknown" });
export const models = signal([]);
export const defaults = signal({});
export const version = signal("");

const SOON = 700; // milliseconds between two questions while the server is not ready
const SELDOM = 5000;

let waiting = [];
let timer = 0;

/** Ask now. */
export async function look() {
  clearTimeout(timer);
  const state = await fetch("health", { cache: "no-store" }).then((r) => r.json()).catch(() => null);
  const now = { ...state, status: state?.status ?? "unreachable" };
  if (JSON.stringify(now) !== JSON.stringify(health.value)) health.value = now;
  const isReady = now.status === "ready";
  if (isReady) waiting.splice(0).forEach((go) => go());
  clearTimeout(timer);
  timer = setTimeout(look, isReady && !waiting.length ? SELDOM : SOON);
}

/** Ends when the server is ready, or with `signal`. */
export async function untilReady(signal) {
  await new Promise((go, fail) => {
    waiting.push(go);
    signal.addEventListener("abort", () => fail(signal.reason), { once: true });
    timer = setTimeout(look, SOON);
  });
}

async function learn() {
  const [list, values, about] = await Promise.all([
    getJson("v1/models"), getJson("sampling_defaults"), getJson("version"),
  ]);
  models.value = list.data;
  defaults.value = values;
  version.value = about.version;
}

/** Follows the server from now on. */
export function follow() {
  look();
  effect(() => {
    if (health.value.status === "ready" && apiKey.value !== null) learn().catch(() => {});
  });
  document.addEventListener("visibilitychange", () => document.hidden || look());
}
