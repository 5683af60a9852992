// The picture of `campaign`: a card for each channel with its copy, where it stands, and what the review says.
//
// Rule 1: until there is a result the cards show the drafts; then they show what is in the result, field by field.

import { isFinished } from "../../state.js";
import { el, titleOf } from "../dom.js";
import { icon } from "../icons.js";
import { markdown } from "../render.js";
import { action, pill, tiles } from "./parts.js";

/** @typedef {import("../../state.js").RunState} RunState */
/** @typedef {import("../story.js").Story} Story */

const FIELDS = ["subject", "preheader", "headline", "subheadline", "body", "call_to_action"];
const MARK = new RegExp(`^\\*\\*(${FIELDS.join("|")})\\*\\* `, "m");
const LEADS = new Set(["subject", "headline"]);

/** @type {import("../picture.js").Picture} */
export const campaign = { label: "Campaign", covers: "draft output-text", draw };

/** @param {RunState} state @param {Story} story */
function draw(state, story) {
  const { result, drafts, stages } = state;
  const written = stages.filter(({ stage }) => stage.startsWith("copy:")).map(({ stage }) => stage.slice(5));
  const names = [...new Set([...Object.keys(result?.channels ?? {}), ...written, ...failedOf(result).keys()])];
  if (names.length === 0 && !drafts["concept"] && !drafts["research"]) return [];
  return [
    head(state, story),
    el("div", { class: "cards" }, ...names.map((channel) => card(channel, state, story))),
    reservations(result?.review?.reservations ?? []),
  ].filter((part) => part instanceof Node);
}

/** @param {any} result @returns {Map<string, string>} */
function failedOf(result) {
  return new Map((result?.failed ?? []).map((/** @type {any} */ one) => [one.channel, one.reason]));
}

/** @param {RunState} state @param {Story} story */
function head({ result, drafts }, story) {
  const review = result?.review;
  const { facts = null, sentences = null } = story.stats;
  const concept = result?.concept;
  return el(
    "section",
    { class: "picture-head", "aria-label": "Concept" },
    concept
      ? el("div", {}, el("h4", { class: "headline" }, concept.headline), el("p", {}, concept.message))
      : el("div", { class: "prose small-prose" }, ...markdown(drafts["concept"] ?? drafts["research"] ?? "")),
    el(
      "div",
      { class: "picture-side" },
      review &&
        pill(review.passed ? "completed" : "failed", review.passed ? "Review passed" : "Review: to be put right"),
      review && action("review", "", "shield", "Review again"),
      tiles([
        ["Sentences", sentences],
        ["Facts", facts],
      ]),
    ),
  );
}

/** @param {string} channel @param {RunState} state @param {Story} story */
function card(channel, state, story) {
  const { result, drafts, stages, status } = state;
  const copy = result?.channels?.[channel];
  const warned = story.warnings.find(({ code }) => code === `copy.${channel}`)?.message;
  const reason = failedOf(result).get(channel) ?? warned;
  const stage = stages.find((one) => one.stage === `copy:${channel}`);
  const findings = result?.review?.channels?.[channel] ?? told(channel, story);
  const [tone = "", words = ""] = reason
    ? ["failed", "Left out"]
    : copy || stage?.done
      ? verdict(findings, state)
      : isFinished(status)
        ? ["cancelled", "Not written"]
        : ["running", "Writing"];
  return el(
    "article",
    { class: "card", "data-key": channel, "aria-label": titleOf(channel), "data-status": tone },
    el("header", {}, el("h4", {}, titleOf(channel)), pill(tone, words)),
    reason
      ? el("p", { class: "error" }, reason)
      : copy
        ? fields(channel, copy)
        : fields(channel, drafted(drafts[`copy:${channel}`] ?? "")),
    findings.length > 0 && checks(findings),
    copy &&
      el(
        "footer",
        {},
        action("regenerate", channel, "again", "Write again", `Write again: ${titleOf(channel)}`),
        copy.claims?.length > 0 &&
          el(
            "span",
            { class: "faint" },
            copy.claims.length === 1 ? "1 claim cited" : `${copy.claims.length} claims cited`,
          ),
      ),
  );
}

/** @param {string} channel @param {any} copy */
function fields(channel, copy) {
  const long = channel === "landing_page" || channel === "blog";
  const shown = FIELDS.filter((name) => typeof copy[name] === "string" && copy[name]);
  return el(
    "dl",
    { class: "copy" },
    ...shown.map((name) =>
      el(
        "div",
        { class: LEADS.has(name) ? "lead" : null },
        el(
          "dt",
          {},
          titleOf(name),
          copy.characters?.[name] ? el("span", {}, ` ${copy.characters[name]} characters`) : "",
        ),
        name === "body" && long
          ? el("dd", { class: "prose small-prose", tabindex: 0 }, ...markdown(copy[name]))
          : el("dd", { class: "plain", tabindex: name === "body" && 0 }, copy[name]),
      ),
    ),
  );
}

/** A draft has each field on a line of its own, its name in bold before it. @param {string} draft */
function drafted(draft) {
  const [, ...parts] = draft.split(MARK);
  /** @type {Record<string, string>} */
  const copy = {};
  for (let at = 0; at + 1 < parts.length; at += 2) copy[parts[at] ?? ""] = (parts[at + 1] ?? "").trim();
  return copy;
}

/** What the review warned of, before there is a result. @param {string} channel @param {Story} story */
function told(channel, story) {
  return story.warnings
    .filter(({ code, message }) => code.startsWith("review.") && message.startsWith(`${channel}: `))
    .map(({ code, message }) => ({ check: code.slice(7), ok: false, message: message.slice(channel.length + 2) }));
}

/** @param {readonly any[]} findings @param {RunState} state */
function verdict(findings, { result }) {
  if (findings.some(({ ok }) => !ok)) return ["failed", "To be put right"];
  return result && findings.length > 0 ? ["completed", "Passed"] : ["done", "Written"];
}

/** @param {readonly any[]} findings */
function checks(findings) {
  const passed = findings.filter(({ ok }) => ok).length;
  return el(
    "details",
    { class: "checks", open: passed < findings.length },
    el("summary", {}, passed > 0 ? `${passed} of ${findings.length} checks passed` : "To be put right"),
    el("ul", { class: "findings" }, ...findings.map(finding)),
  );
}

/** @param {any} one */
function finding({ check, ok, message }) {
  return el(
    "li",
    { "data-status": ok ? "completed" : "failed" },
    icon(ok ? "check" : "warn"),
    el("span", {}, el("b", {}, `${titleOf(check)}: `), message),
  );
}

/** @param {readonly string[]} sentences */
function reservations(sentences) {
  if (sentences.length === 0) return null;
  return el(
    "section",
    { class: "notice warm" },
    el("h4", {}, "Should this be told?"),
    el("p", {}, "Sentences of the sources that limit what the product can do; none is used:"),
    el("ul", { class: "bullets" }, ...sentences.map((sentence) => el("li", {}, sentence))),
  );
}
