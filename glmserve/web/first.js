// Runs before the first paint: the chosen theme and language, so that nothing flashes.
const chosen = (name) => {
  try { return JSON.parse(localStorage.getItem(`glmserve.${name}`)); } catch { return null; }
};
const theme = chosen("theme");
if (theme === "light" || theme === "dark") document.documentElement.style.colorScheme = theme;
document.documentElement.lang = chosen("language") ?? (navigator.language.startsWith("zh") ? "zh-CN" : "en");
