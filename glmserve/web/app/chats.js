// The conversations, and the one that is open.
import { signal } from "./lib.js";
import { keptValue, newId } from "./kept.js";
import { settings } from "./settings.js";
import * as storage from "./storage.js";
import { newestLeaf, pathTo, siblings } from "./tree.js";

/** All conversations, the latest first. */
export const chats = signal([]);
/** The open conversation: id, title, leaf, settings; null: a new one. */
export const chat = signal(null);
/** The open conversation's messages by id; a new Map whenever one is added. */
export const messages = signal(new Map());

/** Messages that are being answered now, by id, in any conversation: one object for each. */
export const live = new Map();

const changes = new WeakMap();
const touched = new Set();

/** A signal that changes when the message's contents do. */
export function changesOf(message) {
  if (!changes.has(message)) changes.set(message, signal(0));
  return changes.get(message);
}

/** Draw the message anew, at most once in a frame. */
export function touch(message) {
  if (!touched.size) requestAnimationFrame(drawTouched);
  touched.add(message);
}

function drawTouched() {
  const all = [...touched];
  touched.clear();
  all.forEach((message) => { changesOf(message).value += 1; });
}

export const path = () => (chat.value ? pathTo(messages.value, chat.value.leaf) : []);
export const branches = (message) => siblings(messages.value, message);

export async function loadChats() {
  const all = await storage.all("chats");
  chats.value = all.sort((a, b) => b.updated - a.updated);
}

/** Show a conversation; null: a new one. */
export async function open(id) {
  const found = id && chats.value.find((one) => one.id === id);
  const list = found ? await storage.all("messages", "chat", id) : [];
  messages.value = new Map(list.map((message) => [message.id, live.get(message.id) ?? message]));
  chat.value = found || null;
  if (found?.settings) settings.value = { ...settings.value, ...found.settings };
}

/** Change the open conversation, or any other, and keep it. */
export async function update(id, changed) {
  const next = { ...chats.value.find((one) => one.id === id), ...changed, updated: Date.now() };
  chats.value = [next, ...chats.value.filter((one) => one.id !== id)];
  if (chat.value?.id === id) chat.value = next;
  await storage.put("chats", next);
}

export async function rename(id, title) {
  const next = { ...chats.value.find((one) => one.id === id), title };
  chats.value = chats.value.map((one) => (one.id === id ? next : one));
  if (chat.value?.id === id) chat.value = next;
  await storage.put("chats", next);
}

export async function remove(id) {
  if (chat.value?.id === id) await open(null);
  chats.value = chats.value.filter((one) => one.id !== id);
  keptValue.write(localStorage, `draft.${id}`, null);
  await storage.removeChat(id);
}

/** Add a message behind `parent`, and show the branch that ends with it. */
export async function add(parent, fields) {
  if (!chat.value) {
    chat.value = { id: newId(), title: titleOf(fields.content), leaf: null, created: Date.now() };
    chats.value = [chat.value, ...chats.value];
  }
  const message = {
    id: newId(), chat: chat.value.id, parent, created: nextTime(), content: "", ...fields,
  };
  messages.value = new Map(messages.value).set(message.id, message);
  const { id } = chat.value;
  await Promise.all([
    storage.put("messages", message),
    update(id, { leaf: message.id, settings: settings.value }),
  ]);
  return message;
}

let lastTime = 0;
const nextTime = () => { lastTime = Math.max(Date.now(), lastTime + 1); return lastTime; };

/** Show another branch: the newest messages below this one. */
export function show(message) {
  return update(chat.value.id, { leaf: newestLeaf(messages.value, message.id) });
}

export const save = (message) => storage.put("messages", message);

function titleOf(text) {
  const line = text.trim().split("\n")[0];
  return line.length > 60 ? `${line.slice(0, 59)}…` : line;
}

/** Everything, for a file. */
export async function exported(ids) {
  const wanted = chats.value.filter((one) => !ids || ids.includes(one.id));
  const own = new Set(wanted.map((one) => one.id));
  const all = (await storage.all("messages")).filter((message) => own.has(message.chat));
  return { format: "glmserve-chats", version: 1, chats: wanted, messages: all };
}
