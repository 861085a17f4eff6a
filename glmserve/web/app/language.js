// The page's languages: one table, one function.
import { computed, effect } from "./lib.js";
import { kept } from "./kept.js";
import { TEXTS } from "./texts.js";

const fromBrowser = navigator.language.startsWith("zh") ? "zh-CN" : "en";
const COLUMN = { en: 0, "zh-CN": 1 };

const chosen = kept("language", null);
export const language = computed(() => (chosen.value in COLUMN ? chosen.value : fromBrowser));

export function setLanguage(name) {
  chosen.value = name;
}

/** The text of this key in the chosen language; `{name}` is replaced by a value. */
export function t(key, values = {}) {
  const text = TEXTS[key][COLUMN[language.value]];
  return text.replace(/{(\w+)}/g, (all, name) => values[name] ?? all);
}

effect(() => { document.documentElement.lang = language.value; });
