// What is open beside the view: the history on a narrow screen, and the settings.
import { signal } from "../lib.js";
import { kept } from "../kept.js";

export const historyIsOpen = signal(false);
export const settingsAreOpen = kept("settings_open", false, sessionStorage);
