// Markdown as nodes of the document, as it comes. No text ever becomes markup: nodes are made one by
// one, and text is put into them as text.
import * as md from "../vendor/markdown/markdown.js";
import { MarkdownSource } from "./markdown_source.js";
import { highlight } from "./highlight.js";
import { renderMaths } from "./maths.js";
import { t } from "./language.js";
import { copyText } from "./copy.js";

const TAGS = {
  [md.PARAGRAPH]: "p", [md.HEADING_1]: "h1", [md.HEADING_2]: "h2", [md.HEADING_3]: "h3",
  [md.HEADING_4]: "h4", [md.HEADING_5]: "h5", [md.HEADING_6]: "h6", [md.CODE_INLINE]: "code",
  [md.ITALIC_AST]: "em", [md.ITALIC_UND]: "em", [md.STRONG_AST]: "strong", [md.STRONG_UND]: "strong",
  [md.STRIKE]: "s", [md.BLOCKQUOTE]: "blockquote", [md.LINE_BREAK]: "br", [md.RULE]: "hr",
  [md.LIST_UNORDERED]: "ul", [md.LIST_ORDERED]: "ol", [md.LIST_ITEM]: "li",
  [md.TABLE_CELL]: "td",
};
const LINKS = new Set([md.LINK, md.RAW_URL, md.IMAGE]);
const CODE = new Set([md.CODE_BLOCK, md.CODE_FENCE]);
const MATHS = new Set([md.EQUATION_BLOCK, md.EQUATION_INLINE]);
const PIECE = 32_000; // characters that are read in one frame
const ADDRESSES = new Set(["http:", "https:", "mailto:"]);

/** A text that grows inside `root`. */
export class MarkdownWriter {
  /**
   * @param {Element} root
   * @param {object} [how]
   * @param {(address: string) => string | null} [how.resolve] - changes addresses of links
   * @param {number} [how.piece] - most characters that are read at once
   * @param {boolean} [how.showsPictures] - a model's pictures are links: they could be anywhere
   * @param {boolean} [how.keepsLines] - whether a new line in a paragraph is one; a model means it so
   */
  constructor(root, how = {}) {
    const usual = { resolve: safeAddress, piece: PIECE, keepsLines: true, showsPictures: false };
    Object.assign(this, { root }, usual, how);
    this.clear();
  }

  clear() {
    this.root.replaceChildren();
    this.length = 0;
    this.isEnded = false;
    this.stack = [{ node: this.root }];
    this.parser = md.parser({
      data: this,
      add_token: (writer, type) => writer.begin(type),
      end_token: (writer) => writer.end(),
      add_text: (writer, text) => writer.text(text),
      set_attr: (writer, type, value) => writer.attribute(type, value),
    });
    this.source = new MarkdownSource(this.parser);
  }

  /** Show the text, of which the beginning may be there already. A long one comes piece by piece,
   * so that the page stays quick. */
  show(text, isWhole) {
    if (this.isPlain) return this.showPlain(text);
    if (text.length < this.length || this.isEnded) this.clear();
    Object.assign(this, { target: text, isWhole });
    this.step();
  }

  step() {
    cancelAnimationFrame(this.next);
    const piece = this.target.slice(this.length, this.length + this.piece);
    this.length += piece.length;
    try {
      this.source.push(piece);
      if (this.length < this.target.length) this.next = requestAnimationFrame(() => this.step());
      else if (this.isWhole) { this.isEnded = true; this.source.end(); }
    } catch {
      this.showPlain(this.target); // nested deeper than the parser can follow
    }
  }

  showPlain(text) {
    const plain = Object.assign(document.createElement("p"), { className: "plain" });
    plain.textContent = visible(text);
    this.root.replaceChildren(plain);
    this.isPlain = true;
  }

  get top() { return this.stack[this.stack.length - 1]; }

  begin(type) {
    const { node } = this.top;
    const made = CODE.has(type) ? codeBlock()
      : type === md.IMAGE && this.showsPictures ? { node: element("img") }
      : LINKS.has(type) ? { node: link() }
      : MATHS.has(type) ? { node: maths(type) }
      : type === md.TABLE ? table()
      : type === md.TABLE_ROW ? { node: element("tr"), isHead: !this.top.hasRows }
      : type === md.CHECKBOX ? { node: checkbox() }
      : type === md.LINE_BREAK && !this.keepsLines ? { node: document.createTextNode(" ") }
      : { node: element(this.top.isHead && type === md.TABLE_CELL ? "th" : TAGS[type] ?? "span") };
    if (type === md.TABLE_ROW) this.top.hasRows = true;
    if (TAGS[type] && type !== md.LINE_BREAK) made.node.dir = "auto";
    node.append(made.outer ?? made.node);
    this.stack.push({ ...made, type });
  }

  end() {
    const { node, type, hasAddress } = this.stack.pop();
    if (LINKS.has(type) && !hasAddress) this.unlink(node, type);
    if (CODE.has(type)) highlight(node);
    if (MATHS.has(type)) renderMaths(node, type === md.EQUATION_BLOCK);
  }

  /** Brackets without an address, as in a[0], are brackets. The parser may have found no second one. */
  unlink(node, type) {
    const end = this.parser.pending === "]" ? "]" : "";
    node.replaceWith(type === md.IMAGE ? "![" : "[", ...node.childNodes, end);
  }

  text(text) {
    if (this.top.node.alt !== undefined) return void (this.top.node.alt += text);
    this.top.node.append(MATHS.has(this.top.type) ? text : visible(text));
  }

  attribute(type, value) {
    const { node, type: kind } = this.top;
    if (type === md.LANG) {
      node.dataset.language = value;
      node.parentNode.previousSibling.firstChild.textContent = visible(value);
    } else if (type === md.CHECKED) node.checked = true;
    else if (type === md.START) node.start = Number(value);
    else if (type === md.HREF || type === md.SRC) {
      this.top.hasAddress = true;
      const address = this.resolve(value);
      if (address === null) return;
      if (this.showsPictures && kind === md.IMAGE) return void (node.src = address);
      node.href = address;
      if (kind === md.IMAGE) node.textContent = `${t("picture")} `;
      if (!address.startsWith("#")) Object.assign(node, { target: "_blank", rel: "noopener noreferrer" });
    }
  }
}

const element = (tag) => document.createElement(tag);
const link = () => element("a");
const maths = (type) => Object.assign(element("span"), {
  className: type === md.EQUATION_BLOCK ? "maths block" : "maths",
});

function checkbox() {
  const box = Object.assign(element("input"), { type: "checkbox", disabled: true });
  box.setAttribute("aria-label", t("checkbox"));
  return box;
}

/** A table that scrolls by itself, by the keyboard as well. */
function table() {
  const outer = Object.assign(element("div"), { className: "table", tabIndex: 0 });
  outer.setAttribute("role", "region");
  outer.setAttribute("aria-label", t("table"));
  const node = element("table");
  outer.append(node);
  return { outer, node };
}

function codeBlock() {
  const outer = Object.assign(element("figure"), { className: "code" });
  const head = element("figcaption");
  const copy = Object.assign(element("button"), { type: "button", textContent: t("copy") });
  const pre = Object.assign(element("pre"), { tabIndex: 0 });
  const node = element("code");
  copy.onclick = () => copyText(node.textContent, copy);
  head.append(element("span"), copy);
  pre.append(node);
  outer.append(head, pre);
  return { outer, node };
}

/** The address if it is one that may be followed; null otherwise. */
export function safeAddress(text) {
  try {
    return ADDRESSES.has(new URL(text).protocol) ? text : null;
  } catch { return null; } // relative: the model knows no page of this server
}

const CONTROL = /[\u0000-\u0008\u000b-\u001f\u007f]/g;
const BIDI = /[\u202a-\u202e\u2066-\u2069]/g;

/** The text with what would act on other text made visible: control characters, such as those of
 * terminals, and marks that reverse the direction of what follows. */
export function visible(text) {
  return text
    .replace(CONTROL, (c) => String.fromCharCode(c === "\u007f" ? 0x2421 : 0x2400 + c.charCodeAt(0)))
    .replace(BIDI, (c) => `⟨U+${c.charCodeAt(0).toString(16).toUpperCase()}⟩`);
}
