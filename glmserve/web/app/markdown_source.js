// What models write, as the parser reads it: formulas on one line, and names_with_underscores.
import * as md from "../vendor/markdown/markdown.js";

/** Where an underscore is one: code, formulas, addresses. */
const LITERAL = new Set([
  md.CODE_BLOCK, md.CODE_INLINE, md.EQUATION_BLOCK, md.EQUATION_INLINE, md.LINK, md.RAW_URL, md.IMAGE,
]);
const FENCE = /^\s*(?:```|~~~)/;
const LONGEST_MARK = 64; // characters of a line in which a fence is looked for
const MAY_BE_FORMULA = /^\s*(?:\$\$?|\\|\\\[.*|\$\$.*)?$/;
const FORMULA = /^\s*(?:\$\$(.+?)\$\$|\\\[(.+?)\\\])([.,;]?)\s*$/;
const WORD = /[\p{L}\p{N}]/u;

/** Feeds a parser with a text that grows. */
export class MarkdownSource {
  constructor(parser) {
    this.parser = parser;
    this.line = ""; // the part of the last line that is held back
    this.isHeld = true;
    this.start = ""; // of the last line
    this.isCode = false; // between two fences
    this.before = "";
    this.underscore = "";
  }

  push(text) {
    const [first, ...others] = text.split("\n");
    this.#more(first);
    for (const part of others) {
      this.#endLine();
      this.#more(part);
    }
  }

  end() {
    if (this.isHeld) this.#endLine();
    this.#write(this.underscore);
    md.parser_end(this.parser);
  }

  #more(text) {
    if (this.start.length < LONGEST_MARK) this.start += text.slice(0, LONGEST_MARK);
    if (!this.isHeld) return this.#release(text);
    this.line += text;
    if (MAY_BE_FORMULA.test(this.line) && !this.#isLiteral()) return;
    this.isHeld = false;
    this.#release(this.line);
  }

  #endLine() {
    const formula = this.isHeld && !this.isCode && this.line.match(FORMULA);
    if (formula) this.#write(`$$\n${(formula[1] ?? formula[2]).trim()}\n$$\n${formula[3]}\n`);
    else this.#release(`${this.isHeld ? this.line : ""}\n`);
    if (FENCE.test(this.start)) this.isCode = !this.isCode;
    this.line = this.start = "";
    this.isHeld = true;
  }

  /** Write a text; an underscore inside of a word is no emphasis. */
  #release(text) {
    for (const part of text.split(/(_)/)) this.#part(part);
  }

  #part(part) {
    if (!part) return;
    const pending = this.underscore;
    this.underscore = "";
    if (part === "_" && !pending) {
      this.underscore = "_";
      return;
    }
    if (pending) {
      const isInside = WORD.test(this.before) && WORD.test(part[0]) && !this.#isLiteral();
      this.#write(isInside ? "\\_" : "_");
    }
    this.#write(part);
  }

  #isLiteral() {
    return this.isCode || LITERAL.has(this.parser.token);
  }

  #write(text) {
    if (!text) return;
    md.parser_write(this.parser, text);
    this.before = text[text.length - 1];
  }
}
