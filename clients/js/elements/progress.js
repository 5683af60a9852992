// <run-progress>: how far the run is: a bar, its stages, and what it says it is doing.
//
// Rule 1: what changes often is shown; what changes rarely is also said aloud.

import { isFinished } from "../state.js";
import { el, patch, say, styled, titleOf } from "./dom.js";
import { RunElement } from "./element.js";
import { icon, stageIcon } from "./icons.js";
import { journalOf } from "./journal.js";

/** @typedef {import("../state.js").RunState} RunState */
/** @typedef {import("../run.js").Run} Run */

export class RunProgress extends RunElement {
  #bar = el(
    "div",
    {
      part: "bar",
      class: "bar",
      role: "progressbar",
      "aria-label": "Progress",
      "aria-valuemin": 0,
      "aria-valuemax": 100,
    },
    el("div", { part: "fill", class: "fill" }),
  );
  #percent = el("span", { part: "percent", class: "percent", "aria-hidden": "true" });
  #message = el("p", { part: "message", class: "message" });
  #stages = el("ol", { part: "stages", class: "stages", "aria-label": "Stages" });
  #aloud = el("p", { class: "unseen", role: "status", "aria-live": "polite" });

  constructor() {
    super();
    const row = el("div", { class: "progress-row" }, this.#bar, this.#percent);
    this.box.append(this.#message, row, this.#stages, this.#aloud);
  }

  /** @override @param {RunState | null} state @param {Run | null} run */
  draw(state, run) {
    const status = state?.status ?? "queued";
    const value = status === "completed" ? 100 : Math.round((state?.progress ?? 0) * 10) / 10;
    this.#bar.setAttribute("aria-valuenow", String(value));
    this.#bar.setAttribute(
      "aria-valuetext",
      `${Math.round(value)} %${state?.stage ? `, ${titleOf(state.stage)}` : ""}`,
    );
    this.#bar.dataset["status"] = status;
    styled(this.#bar, { value: `${value}%` });
    say(this.#percent, `${Math.round(value)} %`);
    say(this.#message, state && run ? messageOf(state, journalOf(run).story.reason) : "No run");
    const shown = state ? stagesOf(state) : [];
    this.#stages.hidden = shown.length === 0;
    patch(this.#stages, shown);
    say(this.#aloud, state ? aloud(state) : "");
  }
}

/** @param {RunState} state @param {string | null} reason why it was cancelled */
function messageOf({ status, message, stage }, reason) {
  if (status === "queued") return "Waiting to start";
  if (status === "completed") return "Done";
  if (status === "paused") return message ? `Paused at: ${message}` : "Paused";
  if (status === "cancelling") return "Stopping…";
  if (status === "cancelled") return `Stopped${message ? ` at: ${message}` : ""}${reason ? ` (${reason})` : ""}`;
  if (status === "failed") return message ? `Failed at: ${message}` : "Failed";
  return message ?? (stage ? titleOf(stage) : "Running");
}

/** @param {RunState} state */
function aloud({ status, stage, inputs }) {
  const where = stage && !isFinished(status) ? `, ${titleOf(stage)}` : "";
  return `Run ${status}${where}${inputs?.length ? ". It asks a question." : ""}`;
}

/** @param {RunState} state */
function stagesOf({ stages = [], status }) {
  const over = isFinished(status);
  const rest = Math.max(0, (stages.at(-1)?.of ?? 0) - stages.length);
  const items = stages.map(({ stage, done }) => {
    const as = done ? "done" : status === "failed" ? "failed" : over ? "stopped" : "active";
    const words = { done: "done", failed: "failed", stopped: "not finished", active: "under way" }[as];
    return el(
      "li",
      { class: "stage", "data-status": as, "aria-current": as === "active" && "step" },
      el("span", { class: "disc" }, icon(as === "done" ? "check" : as === "failed" ? "cross" : stageIcon(stage))),
      titleOf(stage),
      el("span", { class: "unseen" }, `, ${words}`),
    );
  });
  if (rest > 0 && !over) items.push(el("li", { class: "stage ahead", title: `${rest} to come` }, `+${rest} to come`));
  return items;
}
