// <run-draft>: what the run writes, while it writes it.
//
// Rule 1: text is shown as the Markdown that it will be, as long as that is cheap; a very long one as it stands.
// Rule 2: whoever reads back is left where they are; whoever is at the end stays there.

import { isFinished } from "../state.js";
import { anew, atEnd, el, patch, titleOf } from "./dom.js";
import { RunElement } from "./element.js";
import { markdown } from "./render.js";

/** @typedef {import("../state.js").RunState} RunState */

/** Beyond this many characters a text is shown plain: it would be parsed again with every word. */
const PLAIN_FROM = 20_000;

export class RunDraft extends RunElement {
  /** @override */
  static pace = 150;
  #texts = el("div", { part: "text", class: "draft", tabindex: 0, role: "region", "aria-label": "Draft" });
  #none = el("p", { part: "empty", class: "empty" }, "Nothing is written yet.");
  /** @type {Map<string, {body: HTMLElement, text: string}>} */
  #parts = new Map();

  constructor() {
    super();
    this.box.append(this.#none, this.#texts);
  }

  /** @override */
  begin() {
    this.#parts.clear();
    anew(this.#texts);
  }

  /** @override @param {RunState | null} state */
  draw(state) {
    const texts = state ? textsOf(state) : [];
    this.#none.hidden = texts.length > 0;
    this.#texts.hidden = texts.length === 0;
    this.#texts.classList.toggle("growing", state !== null && !isFinished(state.status));
    for (const key of this.#parts.keys()) if (!texts.some((text) => text.key === key)) return this.#again(texts);
    atEnd(this.#texts, () => texts.forEach((text) => this.#write(text)));
  }

  /** After a gap there may be other texts than before. @param {ReturnType<typeof textsOf>} texts */
  #again(texts) {
    this.begin();
    atEnd(this.#texts, () => texts.forEach((text) => this.#write(text)));
  }

  /** @param {{key: string, title: string, text: string}} text */
  #write({ key, title, text }) {
    let part = this.#parts.get(key);
    if (!part) {
      part = { body: el("div", { class: "prose" }), text: "" };
      this.#parts.set(key, part);
      this.#texts.append(el("section", { "aria-label": title }, el("p", { class: "title" }, title), part.body));
    }
    if (part.text === text) return;
    part.text = text;
    const plain = text.length > PLAIN_FROM;
    part.body.classList.toggle("plain", plain);
    patch(part.body, plain ? [document.createTextNode(text)] : markdown(text));
  }
}

/** @param {RunState} state */
function textsOf({ drafts, blocks }) {
  return [
    ...Object.entries(drafts).map(([stage, text]) => ({
      key: `draft ${stage}`,
      title: `Draft: ${titleOf(stage)}`,
      text,
    })),
    ...Object.entries(blocks).map(([block, text]) => ({ key: `block ${block}`, title: titleOf(block), text })),
  ];
}
