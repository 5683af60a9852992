// The picture of `content`: the text as it is written, how often it was begun anew, and where its sentences come from.

import { el } from "../dom.js";
import { icon } from "../icons.js";
import { bySource, noted, notes, tiles } from "./parts.js";

/** @typedef {import("../../state.js").RunState} RunState */
/** @typedef {import("../story.js").Story} Story */

/** @type {import("../picture.js").Picture} */
export const content = { label: "Text", covers: "draft output-text", draw };

/** @param {RunState} state @param {Story} story */
function draw({ blocks, result, status }, story) {
  const attempts = Object.keys(blocks);
  const last = attempts.at(-1);
  if (!last && !result) return [];
  const cited = bySource(result?.citations ?? story.cites.get(last ?? "") ?? []);
  const sources = new Map(cited.map(({ key, source }) => [key, source]));
  const { words = null, citations = null } = story.stats;
  const text = result?.markdown ?? blocks[last ?? ""] ?? "";
  const growing = status === "running" && !story.complete.has(last ?? "");
  return [
    tiles([
      ["Words", result?.words ?? words],
      ["Citations", result?.citations?.length ?? citations],
      ["Sources", cited.length || null],
      ["Attempts", attempts.length > 1 ? attempts.length : null],
    ]),
    problems(story),
    el(
      "article",
      {
        class: growing ? "document prose growing" : "document prose",
        "aria-label": result?.title ?? "Draft",
        "aria-busy": String(growing),
      },
      ...noted(text, sources),
    ),
    // The finished text lists its sources itself.
    result ? quotations(cited) : notes(cited),
  ].filter((part) => part instanceof Node);
}

/** @param {Story} story */
function problems({ warnings }) {
  if (warnings.length === 0) return null;
  return el(
    "ul",
    { class: "findings", "aria-label": "Warnings" },
    ...warnings.map(({ message }) => el("li", { "data-status": "paused" }, icon("warn"), el("span", {}, message))),
  );
}

/** @param {ReturnType<typeof bySource>} cited */
function quotations(cited) {
  const quoted = cited.filter(({ quotes }) => quotes.length > 0);
  return notes(quoted, "Quotations");
}
