// Begins: draws the page, follows the server, reads on what was being read.
import { resumeAll } from "./answer.js";
import { resumeText } from "./notebook.js";
import { chat, loadChats, open } from "./chats.js";
import { loadRest } from "./later.js";
import { effect, html, render } from "./lib.js";
import { App } from "./parts/app.js";
import { route } from "./route.js";
import { follow } from "./server.js";
import "./theme.js";

render(html`<${App} />`, document.getElementById("app"));
performance.mark("usable");
follow();
await loadChats();
effect(() => {
  const { view, id } = route.value;
  if (view === "chat" && id !== (chat.peek()?.id ?? "")) open(id || null);
});
resumeAll();
resumeText();
loadRest();
