// The picture of `autopilot`: what the search came to, and the outline as it grows.

import { el } from "../dom.js";
import { action, noted, notes, tiles } from "./parts.js";

/** @typedef {import("../../state.js").RunState} RunState */
/** @typedef {import("../story.js").Story} Story */

/** @type {import("../picture.js").Picture} */
export const autopilot = { label: "Plan", covers: "draft output-text", draw };

/** @param {RunState} state @param {Story} story */
function draw({ drafts, result }, story) {
  const { hits = null, verified = null, sections = null } = story.stats;
  if (hits === null && !result) return [];
  /** @type {Record<string, string>} */
  const documents = result?.documents ?? {};
  const sources = new Map(Object.entries(documents));
  return [
    el(
      "div",
      { class: "picture-head" },
      tiles([
        ["Hits", hits],
        ["Verified", verified],
        ["Sections", sections],
      ]),
      result && action("write", "", "pen", "Write it", "Write it: the text from this outline"),
    ),
    !result &&
      drafts["strategy"] &&
      !drafts["outline"] &&
      el("div", { class: "prose" }, ...noted(drafts["strategy"], sources)),
    result
      ? outline(result, sources)
      : drafts["outline"] && el("div", { class: "prose growing" }, ...noted(drafts["outline"], sources)),
    result && notes(Object.entries(documents).map(([key, source]) => ({ key, source }))),
  ].filter((part) => part instanceof Node);
}

/** @param {any} result @param {ReadonlyMap<string, string>} sources */
function outline({ topic, outline }, sources) {
  return el(
    "section",
    { class: "prose", "aria-label": "Outline" },
    el("h4", {}, topic),
    el(
      "ol",
      { class: "outline" },
      ...(outline ?? []).map((/** @type {any} */ section) =>
        el(
          "li",
          {},
          el("b", {}, section.heading),
          el(
            "ul",
            {},
            ...(section.points ?? []).map((/** @type {any} */ point) =>
              el(
                "li",
                {},
                point.text,
                el("sup", { class: "note", title: sources.get(point.source) ?? null }, `[${point.source}]`),
              ),
            ),
          ),
        ),
      ),
    ),
  );
}
