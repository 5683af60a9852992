// Markdown, the plain part of it, as a tree.
//
// Rule 1: pure: text in, a tree out. Text is never HTML: a tag in it stays the characters that it is.
// Rule 2: any text is taken, in time that grows with its length: nesting and the search for a closing mark have bounds.

/**
 * @typedef {{type: "text" | "code", text: string} | {type: "break"}
 *   | {type: "strong" | "em" | "del", children: Inline[]}
 *   | {type: "link", href: string, children: Inline[]}} Inline
 */
/**
 * @typedef {{type: "heading", level: number, children: Inline[]} | {type: "paragraph", children: Inline[]}
 *   | {type: "code", text: string} | {type: "rule"} | {type: "quote", blocks: Block[]}
 *   | {type: "list", start: number | null, items: Block[][]}
 *   | {type: "table", head: Inline[][], rows: Inline[][][]}} Block
 */

const DEEPEST = 6;
const FARTHEST = 2_000;

const FENCE = /^ {0,3}(`{3,}|~{3,})/;
const HEADING = /^ {0,3}(#{1,6})(?:[ \t]+(.*?))?(?:[ \t]+#+)?[ \t]*$/;
const RULE = /^ {0,3}(?:(?:\*[ \t]*){3,}|(?:-[ \t]*){3,}|(?:_[ \t]*){3,})$/;
const QUOTE = /^ {0,3}> ?/;
const ITEM = /^( {0,3})([-*+]|\d{1,9}[.)])([ \t]+|$)/;
const DIVIDER = /^[ \t]*\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*$/;

/** @param {string} text @returns {Block[]} */
export function parse(text) {
  return blocksOf(text.replace(/\r\n?/g, "\n").split("\n"), 0);
}

/** @param {string[]} lines @param {number} depth @returns {Block[]} */
function blocksOf(lines, depth) {
  /** @type {Block[]} */
  const blocks = [];
  /** @type {string[]} */
  let paragraph = [];
  const flush = () => {
    if (paragraph.length > 0) blocks.push({ type: "paragraph", children: inline(paragraph.join("\n"), 0) });
    paragraph = [];
  };
  for (let at = 0; at < lines.length; ) {
    const line = lines[at] ?? "";
    const taken = line.trim() === "" ? null : special(lines, at, depth, paragraph.length > 0);
    if (taken) {
      flush();
      blocks.push(taken.block);
      at = taken.next;
    } else {
      if (line.trim() === "") flush();
      else paragraph.push(line.trimStart());
      at++;
    }
  }
  flush();
  return blocks;
}

/**
 * A block that is not a paragraph, and the line after it.
 * @param {string[]} lines
 * @param {number} at
 * @param {number} depth
 * @param {boolean} inParagraph
 * @returns {{block: Block, next: number} | null}
 */
function special(lines, at, depth, inParagraph) {
  const line = lines[at] ?? "";
  const fence = FENCE.exec(line)?.[1];
  if (fence) {
    let end = at + 1;
    while (end < lines.length && !lines[end]?.trimStart().startsWith(fence)) end++;
    return { block: { type: "code", text: lines.slice(at + 1, end).join("\n") }, next: end + 1 };
  }
  const heading = HEADING.exec(line);
  if (heading) {
    const children = inline(heading[2] ?? "", 0);
    return { block: { type: "heading", level: heading[1]?.length ?? 1, children }, next: at + 1 };
  }
  if (RULE.test(line)) return { block: { type: "rule" }, next: at + 1 };
  if (depth < DEEPEST && QUOTE.test(line)) {
    let end = at;
    while (end < lines.length && QUOTE.test(lines[end] ?? "")) end++;
    const quoted = lines.slice(at, end).map((inner) => inner.replace(QUOTE, ""));
    return { block: { type: "quote", blocks: blocksOf(quoted, depth + 1) }, next: end };
  }
  if (depth < DEEPEST && ITEM.test(line)) return listAt(lines, at, depth);
  if (!inParagraph && line.includes("|") && DIVIDER.test(lines[at + 1] ?? "")) return tableAt(lines, at);
  return null;
}

/** @param {string[]} lines @param {number} at @param {number} depth @returns {{block: Block, next: number}} */
function listAt(lines, at, depth) {
  const marker = ITEM.exec(lines[at] ?? "")?.[2] ?? "-";
  const ordered = marker.length > 1;
  /** @type {string[][]} */
  const items = [];
  let width = 0;
  let end = at;
  for (; end < lines.length; end++) {
    const line = lines[end] ?? "";
    const item = ITEM.exec(line);
    const indent = line.length - line.trimStart().length;
    const ofThisList = items.length === 0 || indent < width;
    if (item && ofThisList && ((item[2]?.length ?? 0) > 1) === ordered && !RULE.test(line)) {
      width = item[0].length;
      items.push([line.slice(width)]);
    } else if (line.trim() === "") {
      // A list goes on over blank lines only with more of itself.
      const after = lines[end + 1] ?? "";
      const goesOn = ITEM.test(after) || (after.trim() !== "" && after.length - after.trimStart().length >= width);
      if (!goesOn) break;
      items.at(-1)?.push("");
    } else if (indent >= Math.min(width, 2)) items.at(-1)?.push(line.slice(Math.min(indent, width)));
    else if (item || HEADING.test(line) || FENCE.test(line) || QUOTE.test(line) || RULE.test(line)) break;
    else if (lines[end - 1]?.trim() === "") break;
    else items.at(-1)?.push(line);
  }
  const start = ordered ? Number.parseInt(marker, 10) : null;
  return { block: { type: "list", start, items: items.map((item) => blocksOf(item, depth + 1)) }, next: end };
}

/** @param {string[]} lines @param {number} at @returns {{block: Block, next: number}} */
function tableAt(lines, at) {
  let end = at + 2;
  while (end < lines.length && lines[end]?.includes("|")) end++;
  const rows = lines.slice(at + 2, end).map(cells);
  return { block: { type: "table", head: cells(lines[at] ?? ""), rows }, next: end };
}

/** @param {string} line */
function cells(line) {
  const parts = line.trim().replace(/^\|/, "").replace(/\|$/, "").split("|");
  return parts.map((part) => inline(part.trim(), 0));
}

/** @param {string} text @param {number} depth @returns {Inline[]} */
export function inline(text, depth) {
  /** @type {Inline[]} */
  const found = [];
  let plain = "";
  const flush = () => {
    if (plain) found.push({ type: "text", text: plain });
    plain = "";
  };
  for (let at = 0; at < text.length; ) {
    const mark = markAt(text, at, depth);
    if (!mark) {
      plain += text[at++];
      continue;
    }
    if (typeof mark.node === "string") plain += mark.node;
    else {
      flush();
      found.push(mark.node);
    }
    at = mark.next;
  }
  flush();
  return found;
}

/**
 * @param {string} text
 * @param {number} at
 * @param {number} depth
 * @returns {{node: Inline | string, next: number} | null}
 */
function markAt(text, at, depth) {
  switch (text[at]) {
    case "\\":
      if (text[at + 1] === "\n") return { node: { type: "break" }, next: at + 2 };
      return /[!-/:-@[-`{-~]/.test(text[at + 1] ?? "") ? { node: text[at + 1] ?? "", next: at + 2 } : null;
    case "\n":
      return text.endsWith("  ", at) ? { node: { type: "break" }, next: at + 1 } : { node: " ", next: at + 1 };
    case "`": {
      const ticks = run(text, at);
      const end = find(text, ticks, at + ticks.length);
      if (end < 0) return { node: ticks, next: at + ticks.length };
      return { node: { type: "code", text: text.slice(at + ticks.length, end).trim() }, next: end + ticks.length };
    }
    case "*":
    case "_":
    case "~":
      return depth < DEEPEST ? emphasisAt(text, at, depth) : null;
    case "!":
      return text[at + 1] === "[" ? linkAt(text, at + 1, depth) : null;
    case "[":
      return linkAt(text, at, depth);
    default:
      return null;
  }
}

/**
 * @param {string} text
 * @param {number} at
 * @param {number} depth
 * @returns {{node: Inline | string, next: number} | null}
 */
function emphasisAt(text, at, depth) {
  const sign = text[at] ?? "";
  const marks = run(text, at);
  const size = Math.min(marks.length, 2);
  const mark = sign.repeat(size);
  const literal = { node: marks, next: at + marks.length };
  if (sign === "~" && size < 2) return literal;
  if (/\s/.test(text[at + marks.length] ?? " ")) return literal;
  if (sign === "_" && /[\p{L}\p{N}]/u.test(text[at - 1] ?? "")) return literal;
  let end = at + marks.length;
  for (;;) {
    end = find(text, mark, end, at);
    if (end < 0) return literal;
    const closes = run(text, end);
    const inWord = sign === "_" && /[\p{L}\p{N}]/u.test(text[end + closes.length] ?? "");
    if (!/\s/.test(text[end - 1] ?? " ") && !inWord && (closes.length >= 2) === (size === 2)) break;
    end += closes.length;
  }
  const type = sign === "~" ? "del" : size === 2 ? "strong" : "em";
  // With three signs the inner one is what is left over.
  const inner = text.slice(at + size, end + (marks.length > 2 && run(text, end).length > 2 ? 1 : 0));
  return { node: { type, children: inline(inner, depth + 1) }, next: at + size + inner.length + size };
}

/** A link or image, both as a link. @param {string} text @param {number} at @param {number} depth */
function linkAt(text, at, depth) {
  const middle = find(text, "](", at);
  const end = middle < 0 ? -1 : closing(text, middle + 1);
  if (end < 0 || depth >= DEEPEST) return null;
  const label = text.slice(at + 1, middle);
  if (label.includes("[") || label.includes("\n\n")) return null;
  const target = /^\s*(\S*)(?:\s+"[^"]*")?\s*$/.exec(text.slice(middle + 2, end));
  if (!target) return null;
  /** @type {Inline} */
  const node = { type: "link", href: target[1] ?? "", children: inline(label, depth + 1) };
  return { node, next: end + 1 };
}

/** The parenthesis that closes the one at `open`. @param {string} text @param {number} open */
function closing(text, open) {
  let nested = 0;
  for (let at = open; at < Math.min(text.length, open + FARTHEST); at++) {
    if (text[at] === "(") nested++;
    else if (text[at] === ")" && --nested === 0) return at;
  }
  return -1;
}

/** The signs of one kind from here on. @param {string} text @param {number} at */
function run(text, at) {
  let end = at;
  while (text[end] === text[at]) end++;
  return text.slice(at, end);
}

/**
 * Where a mark comes next, not too far from where its partner is.
 * @param {string} text
 * @param {string} mark
 * @param {number} from
 * @param {number} [since]
 */
function find(text, mark, from, since = from) {
  const near = text.slice(from, since + FARTHEST).indexOf(mark);
  return near < 0 ? -1 : from + near;
}
