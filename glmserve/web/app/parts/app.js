// The whole page: history, the view that is open, settings, dialogs.
import { announced } from "../announcing.js";
import { keyIsMissing } from "../key.js";
import { later } from "../later.js";
import { html, useSignal } from "../lib.js";
import { language, t } from "../language.js";
import { route } from "../route.js";
import { ChatView } from "./chat.js";
import { HelpDialog, KeyDialog, help, keyDialog } from "./dialogs.js";
import { settingsAreOpen } from "./opened.js";
import { Shortcuts } from "./shortcuts.js";
import { Sidebar } from "./sidebar.js";
import { StatusBar } from "./status.js";
import { TopBar } from "./top.js";

const FIELDS = { chat: "#composer", notebook: "#notebook", guide: "#guide-text", board: "#board" };
const HAS_SETTINGS = new Set(["chat", "notebook"]);
const SettingsPanel = later(() => import("./settings.js"), "SettingsPanel", "settings");
const VIEWS = {
  chat: ChatView,
  board: later(() => import("./board/board.js"), "BoardView", "board"),
  notebook: later(() => import("./notebook.js"), "NotebookView", "notebook"),
  guide: later(() => import("./guide.js"), "GuideView", "guide-text"),
};

export function App() {
  useSignal(language); // every text is drawn anew
  const { view } = useSignal(route);
  const said = useSignal(announced);
  const isOpen = useSignal(settingsAreOpen);
  const isMissing = useSignal(keyIsMissing);
  const isAsked = useSignal(keyDialog);
  const hasHelp = useSignal(help);
  return html`
    <a class="skip" href=${FIELDS[view]} onClick=${skip}>${t("skip")}</a>
    <div class="shell">
      <${Sidebar} />
      <main class="main">
        <${TopBar} view=${view} />
        <${StatusBar} />
        <${VIEWS[view]} />
      </main>
      ${isOpen && HAS_SETTINGS.has(view) && html`<${SettingsPanel} />`}
    </div>
    <${Shortcuts} />
    ${(isMissing || isAsked) && html`<${KeyDialog} />`}
    ${hasHelp && html`<${HelpDialog} />`}
    <div class="unseen" role="status">${said && t(said)}</div>`;
}

function skip(event) {
  event.preventDefault();
  document.querySelector(event.target.hash)?.focus();
}
