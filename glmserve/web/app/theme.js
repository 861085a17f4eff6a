// Light, dark, or what the system says.
import { effect } from "./lib.js";
import { kept } from "./kept.js";

export const THEMES = ["system", "light", "dark"];
export const theme = kept("theme", "system");

effect(() => {
  const isChosen = theme.value === "light" || theme.value === "dark";
  document.documentElement.style.colorScheme = isChosen ? theme.value : "";
});
