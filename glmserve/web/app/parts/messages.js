// The last messages of a conversation.
import { html } from "../lib.js";
import { Message } from "./message.js";

export function Messages({ list }) {
  return list.map((message, place) => html`<${Message} key=${message.id} message=${message} isLast=${place === list.length - 1} />`);
}
