// A timeline's rows, from a run's story: which bars there are, and what they say.
//
// Rule 1: pure; no page here.

import { costOf, lengthOf, titleOf } from "./dom.js";

/** @typedef {import("./story.js").Story} Story */
/** @typedef {import("./story.js").Span} Span */
/**
 * `says`: the details in words; `label` stands in the bar.
 * @typedef {{key: string, kind: string, label: string, says: string, cost_usd?: number, began: number, ended: number,
 *   open: boolean}} Bar
 */
/** @typedef {{title: string, bars: Bar[]}} Row */

const MOST_LANES = 6;
const MOST_BARS = 400;

/** @param {Story} story @param {number} [now] how far what has no end goes on @returns {Row[]} */
export function rowsOf(story, now = story.last ?? 0) {
  /** @param {Span} span @param {string} kind @param {string} key @param {string} label @param {string} [more] */
  const bar = ({ began, ended }, kind, key, label, more = "") => {
    const took = ended === null ? `for ${lengthOf(now - began)} so far` : lengthOf(ended - began);
    const says = `${label}: ${took}, from ${lengthOf(began - (story.began ?? began))}${more}`;
    return { key, kind, label, says, began, ended: Math.max(began, ended ?? now), open: ended === null };
  };
  /** @type {Row[]} */
  const rows = [];
  /** Stages of the same name share a row. @type {Map<string, Bar[]>} */
  const stages = new Map();
  story.stages.forEach((span, place) => {
    const name = titleOf(span.stage);
    const kind = span.done ? "stage" : story.ended === null ? "stage open" : "stage stopped";
    const bars = stages.get(name) ?? [];
    stages.set(name, [
      ...bars,
      bar(span, kind, `stage ${place}`, name, span.done || span.ended === null ? "" : ", not finished"),
    ]);
  });
  for (const [title, bars] of stages) rows.push({ title, bars });
  for (const [kind, title] of /** @type {const} */ ([
    ["llm", "Models"],
    ["tool", "Tools"],
  ])) {
    const calls = story.calls.filter((call) => call.kind === kind).slice(-MOST_BARS);
    const bars = calls.map((call, place) => {
      const cost = call.cost_usd === undefined ? "" : `, ${costOf(call.cost_usd)}`;
      const tokens = call.usage ? `, ${call.usage.input_tokens} tokens in, ${call.usage.output_tokens} out` : "";
      const failed = call.error ? `, failed: ${short(call.error)}` : "";
      const args = call.args ? `, ${short(call.args)}` : "";
      const made = bar(
        call,
        call.error ? `${kind} failed` : kind,
        `${kind} ${place}`,
        call.name,
        `${cost}${tokens}${args}${failed}`,
      );
      return { ...made, cost_usd: call.cost_usd };
    });
    lanes(bars).forEach((lane, place) => rows.push({ title: place === 0 ? title : "", bars: lane }));
  }
  const waits = [
    ...story.questions.map((span, place) => bar(span, "wait", `question ${place}`, `Asked: ${span.prompt}`)),
    ...story.pauses.map((span, place) => bar(span, "wait", `pause ${place}`, "Paused")),
  ];
  if (waits.length > 0) rows.push({ title: "Waiting", bars: waits });
  return rows;
}

/** Bars that overlap go below each other. @param {Bar[]} bars @returns {Bar[][]} */
function lanes(bars) {
  /** @type {Bar[][]} */
  const found = [];
  for (const bar of bars) {
    const free = found.find((lane) => (lane.at(-1)?.ended ?? 0) <= bar.began);
    if (free) free.push(bar);
    else if (found.length < MOST_LANES) found.push([bar]);
    else found.at(-1)?.push(bar);
  }
  return found;
}

/** @param {unknown} value */
function short(value) {
  const text = typeof value === "string" ? value : JSON.stringify(value);
  return text.length > 160 ? `${text.slice(0, 160)}…` : text;
}
