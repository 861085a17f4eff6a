// Keys that work anywhere on the page.
import { isBusy, stopAll } from "../answer.js";
import { useListener } from "../lib.js";
import { go } from "../route.js";
import { help } from "./dialogs.js";
import { historyIsOpen, settingsAreOpen } from "./opened.js";

export function Shortcuts() {
  useListener(document, "keydown", onKey);
  return null;
}

function onKey(event) {
  const action = actionOf(event);
  if (!action) return;
  event.preventDefault();
  action();
}

function actionOf(event) {
  const { key, shiftKey } = event;
  const isCommand = event.ctrlKey || event.metaKey;
  if (key === "Escape" && isBusy.value && !document.querySelector("dialog[open]")) return stopAll;
  if (isCommand && shiftKey && key.toLowerCase() === "o") return newChat;
  if (isCommand && !shiftKey && key.toLowerCase() === "k") return search;
  if (isCommand && key === ",") return () => { settingsAreOpen.value = !settingsAreOpen.value; };
  if (isCommand && key === "/") return () => { help.value = !help.value; };
  return null;
}

function newChat() {
  go("chat");
  requestAnimationFrame(() => document.querySelector("#composer")?.focus());
}

function search() {
  historyIsOpen.value = true;
  requestAnimationFrame(() => document.querySelector("#search")?.focus());
}
