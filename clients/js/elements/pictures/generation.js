// The picture of `generation`: the document as its blocks grow side by side, with its sources as footnotes.

import { isFinished } from "../../state.js";
import { el } from "../dom.js";
import { bySource, noted, notes, tiles } from "./parts.js";

/** @typedef {import("../../state.js").RunState} RunState */
/** @typedef {import("../story.js").Story} Story */

/** @type {import("../picture.js").Picture} */
export const generation = { label: "Document", covers: "draft output-text", draw };

/** @param {RunState} state @param {Story} story */
function draw({ blocks, result, status }, story) {
  const names = Object.keys(blocks);
  if (names.length === 0) return [];
  const cited = bySource(result?.citations ?? [...story.cites.values()].flat());
  const sources = new Map(cited.map(({ key, source }) => [key, source]));
  const failed = new Map((result?.failed ?? []).map((/** @type {any} */ one) => [one.block, one.reason]));
  const { words = null, citations = null, sections = null } = story.stats;
  const over = isFinished(status);
  const done = names.filter((name) => story.complete.has(name)).length;
  return [
    tiles([
      ["Blocks", over ? names.length : `${done} of ${sections ?? names.length}`],
      ["Words", words ?? wordsOf(blocks)],
      ["Citations", citations ?? (over ? null : [...story.cites.values()].flat().length)],
    ]),
    el(
      "article",
      { class: "document", "aria-label": result?.title ?? "Document" },
      result?.title && el("h3", { class: "document-title" }, result.title),
      ...names.map((name) => {
        const open = !story.complete.has(name) && !over;
        return el(
          "section",
          {
            class: open ? "block growing" : "block",
            "data-key": name,
            "data-open": open,
            "aria-label": name,
            "aria-busy": String(open),
          },
          el("div", { class: "prose" }, ...noted(result?.blocks?.[name] ?? blocks[name] ?? "", sources)),
          failed.has(name) && el("p", { class: "error" }, `Left out: ${failed.get(name)}`),
        );
      }),
      notes(cited),
    ),
  ];
}

/** @param {Readonly<Record<string, string>>} blocks */
function wordsOf(blocks) {
  return Object.values(blocks).reduce((sum, text) => sum + (text.match(/\S+/g)?.length ?? 0), 0);
}
