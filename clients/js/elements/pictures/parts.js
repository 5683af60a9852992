// What several pictures are made of.
//
// Rule 1: pure: values in, elements out; a button carries what it asks as `data-action` and `data-argument`.

import { el } from "../dom.js";
import { icon } from "../icons.js";
import { markdown } from "../render.js";

/** @typedef {import("../icons.js").Icon} Icon */
/** @typedef {import("../dom.js").Child} Child */

const MARK = /\[([\w.-]{1,16})\]/g;

/** A few numbers side by side. @param {readonly (readonly [string, unknown])[]} numbers what is null is left out */
export function tiles(numbers) {
  const shown = numbers.filter(([, value]) => value !== null && value !== undefined);
  return el(
    "dl",
    { class: "tiles" },
    ...shown.map(([name, value]) =>
      el(
        "div",
        { class: "tile" },
        el("dt", {}, name),
        el("dd", {}, typeof value === "number" ? value.toLocaleString() : String(value)),
      ),
    ),
  );
}

/** @param {string} status @param {string} words */
export function pill(status, words) {
  return el("span", { class: "pill", "data-status": status }, words);
}

/**
 * @param {string} action
 * @param {string} argument
 * @param {Icon} picture
 * @param {string} words
 * @param {string} [label] begins with the words
 */
export function action(action, argument, picture, words, label = words) {
  return el(
    "button",
    { type: "button", class: "small", "data-action": action, "data-argument": argument, "aria-label": label },
    icon(picture),
    words,
  );
}

/**
 * Markdown in which marks such as `[1]` stand raised, as far as their sources are known.
 * @param {string} text
 * @param {ReadonlyMap<string, string>} sources names by key
 */
export function noted(text, sources) {
  const nodes = markdown(text);
  for (const node of nodes) raise(node, sources);
  return nodes;
}

/** @param {Node} node @param {ReadonlyMap<string, string>} sources */
function raise(node, sources) {
  for (const child of [...node.childNodes]) {
    if (!(child instanceof Text)) {
      if (!(child instanceof Element && child.localName === "code")) raise(child, sources);
      continue;
    }
    /** @type {Child[]} */
    const parts = [];
    let from = 0;
    for (const { 0: mark, 1: key = "", index } of child.data.matchAll(MARK)) {
      const source = sources.get(key);
      if (source === undefined) continue;
      parts.push(child.data.slice(from, index).trimEnd(), el("sup", { class: "note", title: source }, mark));
      from = index + mark.length;
    }
    if (parts.length > 0)
      child.replaceWith(
        ...[...parts, child.data.slice(from)].filter((part) => part instanceof Node || typeof part === "string"),
      );
  }
}

/**
 * Where the marks lead.
 * @param {readonly {key: string, source: string, quotes?: readonly string[]}[]} sources
 * @param {string} [title]
 */
export function notes(sources, title = "Sources") {
  if (sources.length === 0) return null;
  return el(
    "section",
    { class: "notes", "aria-label": title },
    el("h4", {}, title),
    el(
      "ol",
      {},
      ...sources.map(({ key, source, quotes = [] }) =>
        el(
          "li",
          {},
          el("span", { class: "key" }, `[${key}]`),
          el("div", {}, el("span", {}, source), quotes.length > 0 && quoted(quotes)),
        ),
      ),
    ),
  );
}

/** @param {readonly string[]} quotes */
function quoted(quotes) {
  return el(
    "details",
    {},
    el("summary", {}, quotes.length === 1 ? "1 quotation" : `${quotes.length} quotations`),
    ...quotes.map((quote) => el("blockquote", {}, quote)),
  );
}

/** Citations by their source, in order. @param {readonly {key: string, source: string, quote?: string}[]} citations */
export function bySource(citations) {
  /** @type {Map<string, {key: string, source: string, quotes: string[]}>} */
  const found = new Map();
  for (const { key, source, quote } of citations) {
    const one = found.get(key) ?? { key, source, quotes: [] };
    found.set(key, one);
    if (quote && !one.quotes.includes(quote)) one.quotes.push(quote);
  }
  return [...found.values()].sort((a, b) => a.key.localeCompare(b.key, undefined, { numeric: true }));
}

/** A text of any kind on one line. @param {unknown} value @param {number} most */
export function brief(value, most = 140) {
  const text = (typeof value === "string" ? value : JSON.stringify(value)) ?? "";
  const line = text.replace(/\s+/g, " ");
  return line.length > most ? `${line.slice(0, most)}…` : line;
}
