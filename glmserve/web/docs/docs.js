// The reference: openapi.json, shown by Swagger UI, which asks no other host for anything.
import { apiKey, keyHeaders, setKey } from "../app/key.js";
import { t } from "../app/language.js";
import { keepNamed, plainPaths } from "./access.js";

const form = document.getElementById("key");
const problem = document.getElementById("problem");

const isDark = () => {
  const { colorScheme } = document.documentElement.style;
  return colorScheme ? colorScheme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
};
document.documentElement.classList.toggle("dark-mode", isDark());

// The document is written in English, so that it can be read before this has run.
document.querySelectorAll("[data-text]").forEach((place) => { place.textContent = t(place.dataset.text); });
document.querySelectorAll("[data-label]").forEach((place) => place.setAttribute("aria-label", t(place.dataset.label)));

async function show() {
  const response = await fetch("openapi.json", { headers: keyHeaders(), cache: "no-store" });
  form.hidden = response.status !== 401;
  problem.textContent = response.ok || (response.status === 401 && !apiKey.value)
    ? "" : (await response.json()).error.message;
  if (!response.ok) return;
  const spec = await response.json();
  // What is tried is asked of this address: behind a proxy, the server may not know its own.
  spec.servers = [{ url: new URL(".", location.href).href.replace(/\/$/, "") }];
  globalThis.SwaggerUIBundle({
    spec,
    dom_id: "#reference",
    plugins: [plainPaths],
    deepLinking: true,
    defaultModelsExpandDepth: 0,
    docExpansion: "list",
    supportedSubmitMethods: ["get", "post", "delete"],
    syntaxHighlight: { activated: false },
    tryItOutEnabled: true,
    validatorUrl: null,
    requestInterceptor: (request) => {
      request.headers = { ...keyHeaders(), ...request.headers };
      return request;
    },
  });
}

keepNamed(document.getElementById("reference"));
form.addEventListener("submit", (event) => {
  event.preventDefault();
  setKey(new FormData(form).get("key").trim(), false);
  show();
});

show();
