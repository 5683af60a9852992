// A Markdown tree as elements.
//
// Rule 1: elements and text nodes only; a link leads to http, https or mail and nowhere else.

import { el } from "./dom.js";
import { parse } from "./markdown.js";

/** @typedef {import("./markdown.js").Block} Block */
/** @typedef {import("./markdown.js").Inline} Inline */

const SAFE = new Set(["http:", "https:", "mailto:"]);

/** @param {string} text @returns {HTMLElement[]} */
export function markdown(text) {
  const blocks = parse(text);
  const levels = blocks.flatMap((block) => (block.type === "heading" ? [block.level] : []));
  // The page's own headings come before a text's: the highest in it is the third level here.
  const raised = levels.length > 0 ? 3 - Math.min(...levels) : 2;
  return blocks.map((block) => blockOf(block, raised));
}

/** @param {Block} block @param {number} [raised] by how much a heading's level goes up @returns {HTMLElement} */
function blockOf(block, raised = 2) {
  switch (block.type) {
    case "heading": {
      const tag = /** @type {"h3"} */ (`h${Math.min(6, block.level + raised)}`);
      return el(tag, {}, ...block.children.map(inlineOf));
    }
    case "paragraph":
      return el("p", {}, ...block.children.map(inlineOf));
    case "code":
      return el("pre", { tabindex: 0 }, el("code", {}, block.text));
    case "rule":
      return el("hr");
    case "quote":
      return el("blockquote", {}, ...block.blocks.map((inner) => blockOf(inner)));
    case "list": {
      const items = block.items.map((item) => el("li", {}, ...itemOf(item)));
      return block.start === null ? el("ul", {}, ...items) : el("ol", { start: block.start }, ...items);
    }
    case "table":
      return el(
        "div",
        { class: "scrolls", tabindex: 0 },
        el(
          "table",
          {},
          el("thead", {}, rowOf(block.head, "th")),
          el("tbody", {}, ...block.rows.map((row) => rowOf(row, "td"))),
        ),
      );
  }
}

/** A list item of one paragraph needs no paragraph. @param {Block[]} blocks @returns {Node[]} */
function itemOf(blocks) {
  const [first, ...rest] = blocks;
  if (first?.type !== "paragraph") return blocks.map((block) => blockOf(block));
  return [...first.children.map(inlineOf), ...rest.map((block) => blockOf(block))];
}

/** @param {Inline[][]} row @param {"th" | "td"} tag */
function rowOf(row, tag) {
  return el("tr", {}, ...row.map((cell) => el(tag, {}, ...cell.map(inlineOf))));
}

/** @param {Inline} inline @returns {Node} */
function inlineOf(inline) {
  switch (inline.type) {
    case "text":
      return document.createTextNode(inline.text);
    case "code":
      return el("code", {}, inline.text);
    case "break":
      return el("br");
    case "link": {
      const children = inline.children.map(inlineOf);
      const safe = URL.canParse(inline.href) && SAFE.has(new URL(inline.href).protocol);
      if (!safe) return el("span", {}, ...children);
      return el("a", { href: inline.href, target: "_blank", rel: "noopener noreferrer" }, ...children);
    }
    default:
      return el(inline.type, {}, ...inline.children.map(inlineOf));
  }
}
