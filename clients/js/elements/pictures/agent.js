// The picture of `agent`: its steps with the calls it made, what they cost, and the answer.
//
// Rule 1: the budget is known from the run's warnings, or from whoever started it (`known.budget_usd`).

import { costOf, el, lengthOf, styled } from "../dom.js";
import { icon } from "../icons.js";
import { markdown } from "../render.js";
import { brief, pill, tiles } from "./parts.js";

/** @typedef {import("../../state.js").RunState} RunState */
/** @typedef {import("../story.js").Story} Story */
/** @typedef {import("../story.js").Call} Call */

/** @type {import("../picture.js").Picture} */
export const agent = { label: "Steps of the agent", covers: "draft", draw };

/** @param {RunState} state @param {Story} story @param {import("../picture.js").Known} [known] */
function draw(state, story, known = {}) {
  const { drafts, blocks, status } = state;
  if (story.calls.length === 0 && !drafts["plan"]) return [];
  const answer = blocks["answer"];
  return [
    head(story, known.budget_usd),
    el("ol", { class: "steps", "aria-label": "Calls" }, ...story.calls.map((call, place) => step(call, place))),
    answer &&
      status !== "completed" &&
      el("section", { class: "prose growing", "aria-label": "Answer" }, ...markdown(answer)),
  ].filter((part) => part instanceof Node);
}

/** @param {Story} story @param {number | undefined} given */
function head(story, given) {
  const models = story.calls.filter(({ kind }) => kind === "llm");
  const tokens = models.reduce((sum, { usage }) => sum + (usage?.input_tokens ?? 0) + (usage?.output_tokens ?? 0), 0);
  const limit = story.budget?.limit_usd ?? given;
  return el(
    "div",
    { class: "picture-head" },
    tiles([
      ["Model calls", models.length],
      ["Tool calls", story.calls.length - models.length],
      ["Tokens", tokens],
      ["Spent", costOf(story.spent_usd)],
    ]),
    limit !== undefined && meter(story, limit),
  );
}

/** @param {Story} story @param {number} limit */
function meter({ spent_usd, budget }, limit) {
  const share = limit > 0 ? spent_usd / limit : 1;
  const tone = share > 1 || budget?.exceeded ? "failed" : share >= 0.8 ? "paused" : "completed";
  const words = `${costOf(spent_usd)} of ${costOf(limit)}`;
  return el(
    "div",
    { class: "budget", "data-status": tone },
    el(
      "p",
      {},
      el("b", {}, "Budget"),
      el("span", { class: "faint" }, words),
      (budget?.exceeded || share > 1) && pill("failed", "Exceeded"),
    ),
    styled(
      el("div", {
        class: "meter",
        role: "meter",
        "aria-label": "Budget",
        "aria-valuemin": 0,
        "aria-valuemax": limit,
        "aria-valuenow": Math.min(spent_usd, limit),
        "aria-valuetext": words,
      }),
      { value: `${Math.min(100, share * 100).toFixed(2)}%` },
    ),
  );
}

/** What a value holds: short ones as they are, long lists by their length. @param {any} value @returns {string} */
function gistOf(value) {
  if (value === null || typeof value !== "object") return String(value);
  if (Array.isArray(value)) return value.length === 1 ? gistOf(value[0]) : `${value.length} items`;
  return Object.entries(value)
    .map(([name, one]) =>
      Array.isArray(one) && one.length !== 1 ? `${one.length} ${name}` : `${name}: ${gistOf(one)}`,
    )
    .join(", ");
}

/** @param {Call} call @param {number} place */
function step({ kind, call, name, args, began, ended, result, error, cost_usd, usage }, place) {
  const tone = error ? "failed" : ended === null ? "running" : "completed";
  const said = brief(error ? error : result === undefined || result === null ? "" : gistOf(result));
  const facts = [
    ended === null ? "under way" : lengthOf(ended - began),
    usage && `${(usage.input_tokens + usage.output_tokens).toLocaleString()} tokens`,
    cost_usd !== undefined && costOf(cost_usd),
  ].filter(Boolean);
  return el(
    "li",
    { class: `step ${kind}`, "data-status": tone, "data-key": `${kind} ${place}` },
    el("span", { class: "disc" }, icon(kind === "llm" ? "chip" : name === "search" ? "search" : "tool")),
    el(
      "div",
      {},
      el(
        "p",
        { class: "step-head" },
        el("b", {}, name),
        el("span", { class: "faint" }, facts.join(" · ")),
        error && pill("failed", "Failed"),
      ),
      args && Object.keys(args).length > 0 && el("p", { class: "args" }, brief(gistOf(args))),
      said && el("p", { class: error ? "error" : "said" }, said),
    ),
    el("span", { class: "call faint" }, call),
  );
}
