// What Swagger UI leaves out for people who do not see or use a mouse: names, focus, no link in a button.
import { t } from "../app/language.js";

/** A plugin: paths are text, because the button around them opens the route. */
export function plainPaths() {
  const plain = (original, { React }) => ({ text }) => React.createElement("span", null, text);
  return { wrapComponents: { DeepLink: plain } };
}

/** Names what the viewer draws below `place`, from now on. */
export function keepNamed(place) {
  const name = () => {
    for (const field of place.querySelectorAll("textarea:not([aria-label])")) {
      field.setAttribute("aria-label", t("docs_body"));
    }
    for (const table of place.querySelectorAll("table[role=region]:not([aria-label])")) {
      const path = table.closest(".opblock").querySelector(".opblock-summary-path").textContent;
      table.setAttribute("aria-label", `${t("docs_responses")} ${path} ${table.id}`);
    }
    place.querySelectorAll("pre:not([tabindex])").forEach((text) => { text.tabIndex = 0; });
  };
  new MutationObserver(name).observe(place, { childList: true, subtree: true });
}
