// Conversations out of a file. What is not as this page writes it is refused, or left out.
import { loadChats } from "./chats.js";
import * as storage from "./storage.js";

const ROLES = new Set(["user", "assistant", "tool"]);

/** Add the conversations; one that is here already is replaced. Raises TypeError for other files. */
export async function importChats(data) {
  const isOurs = data?.format === "glmserve-chats" && data.version === 1;
  if (!isOurs || !Array.isArray(data.chats) || !Array.isArray(data.messages)) throw new TypeError();
  const chats = data.chats.map(readChat);
  const ids = new Set(chats.map((one) => one.id));
  const messages = data.messages.map(readMessage).filter((message) => ids.has(message.chat));
  await storage.put("messages", ...messages);
  await storage.put("chats", ...chats);
  await loadChats();
}

function readChat({ id, title, leaf, created, updated, settings }) {
  const times = { created: Number(created) || 0, updated: Number(updated) || 0 };
  return { id: String(id), title: String(title), leaf: String(leaf), ...times, settings: readSettings(settings) };
}

/** The system prompt alone: other settings of a stranger's file would change requests unseen. */
function readSettings(settings) {
  return typeof settings?.system === "string" ? { system: settings.system } : {};
}

function readMessage(message) {
  if (!ROLES.has(message?.role)) throw new TypeError();
  const { id, chat, parent, created, role, content, thoughts, calls, callId, state, finish } = message;
  return {
    id: String(id), chat: String(chat), parent: parent == null ? null : String(parent), role,
    created: Number(created) || 0, content: String(content ?? ""),
    thoughts: thoughts ? String(thoughts) : undefined,
    calls: Array.isArray(calls) ? calls.map(readCall) : undefined,
    callId: callId ? String(callId) : undefined,
    state: state === "failed" || state === "done" ? "done" : "stopped",
    finish: finish ? String(finish) : undefined,
  };
}

function readCall({ id, name, arguments: text }) {
  return { id: String(id), name: String(name), arguments: String(text) };
}
