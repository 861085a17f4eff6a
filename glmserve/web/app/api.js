// Requests to the server that this page comes from, below the same path.
import { keyHeaders, keyIsMissing } from "./key.js";

/** The server has answered with an error: its status, its code and its own words. */
export class ServerError extends Error {
  constructor(status, error) {
    super(error?.message ?? `HTTP ${status}`);
    this.status = status;
    this.code = error?.code ?? null;
  }
}

/** Sends a request; raises ServerError for any status but 2xx, and TypeError without a connection. */
export async function call(path, options = {}) {
  const headers = { ...keyHeaders(), ...options.headers };
  if (options.body !== undefined) headers["Content-Type"] = "application/json";
  const response = await fetch(path, { ...options, headers, cache: "no-store" });
  if (response.ok) return response;
  if (response.status === 401) keyIsMissing.value = true;
  const body = await response.json().catch(() => null);
  throw new ServerError(response.status, body?.error);
}

export async function getJson(path) {
  return (await call(path)).json();
}

export async function postJson(path, body, signal) {
  return (await call(path, { method: "POST", body: JSON.stringify(body), signal })).json();
}
