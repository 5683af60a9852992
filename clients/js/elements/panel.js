// <run-panel>: a whole run: what it is, how far, what it asks, what can be asked of it, what it writes and has written.
//
// Rule 1: it is made of the other elements and hands them its run; those that stand inside it on the page, too.
// Rule 2: `without="draft output"` leaves parts out: progress, questions, controls, draft, output; or `output-text`,
// which leaves of the output what can be done with it.

import { isFinished } from "../state.js";
import { costOf, el, lengthOf, patch, say, timeOf } from "./dom.js";
import { RunElement } from "./element.js";

/** @typedef {import("../state.js").RunState} RunState */
/** @typedef {import("../run.js").Run} Run */

/** What the states of the way to the gateway are called. @type {Readonly<Record<string, string>>} */
const WAYS = {
  connecting: "connecting",
  connected: "live",
  retrying: "reconnecting",
  disconnected: "not connected",
  error: "connection lost",
};

export class RunPanel extends RunElement {
  static observedAttributes = [...RunElement.observedAttributes, "without"];

  #name = el("h3", { part: "name" });
  #status = el("strong", { part: "status", class: "pill big" });
  #facts = el("p", { part: "facts", class: "facts faint" });
  #problem = el("div", { part: "problem", class: "notice bad", role: "alert", hidden: true });
  #none = el("p", { part: "empty", class: "empty" }, "No run is shown.");
  #parts = {
    progress: part("run-progress"),
    questions: part("run-questions"),
    controls: part("run-controls"),
    output: part("run-output"),
    draft: part("run-draft"),
  };
  #slot = el("slot", { onslotchange: () => this.#handOn() });
  #draft = el("details", { class: "section", open: true }, el("summary", {}, "Draft"), this.#parts.draft);
  #output = el("section", { class: "section", "aria-label": "Output" }, this.#parts.output);
  /** What the page puts beside the buttons. */
  #actions = el("slot", { name: "actions", onslotchange: () => this.changed() });
  #body = el(
    "div",
    { class: "panel-body" },
    el("header", { class: "run-head" }, el("div", {}, this.#name, this.#facts), this.#status),
    this.#parts.progress,
    this.#parts.questions,
    this.#parts.controls,
    this.#slot,
    this.#output,
    this.#draft,
  );
  #ticking = 0;
  /** The run whose end was shown. @type {Run | null} */
  #finished = null;

  constructor() {
    super();
    this.#parts.output.append(el("h4", { slot: "title" }, "Output"));
    this.#parts.controls.append(this.#actions);
    this.box.append(this.#none, this.#problem, this.#body);
    this.addEventListener("run-retried", (event) => {
      // The buttons are the panel's own: it goes on with the new run, unless the page prevented that.
      const { run } = /** @type {CustomEvent} */ (event).detail;
      queueMicrotask(() => {
        if (!event.defaultPrevented) this.run = run;
      });
    });
  }

  /** @override */
  connectedCallback() {
    super.connectedCallback();
    // The length of a run under way grows without an event.
    this.#ticking = window.setInterval(() => this.run && !isFinished(this.run.state.status) && this.changed(), 1_000);
  }

  /** @override */
  disconnectedCallback() {
    clearInterval(this.#ticking);
    super.disconnectedCallback();
  }

  /** @override @param {string} name */
  attributeChangedCallback(name) {
    if (name === "without") this.changed();
    else super.attributeChangedCallback();
  }

  /** @override */
  begin() {
    this.#handOn();
    this.#draft.open = true;
  }

  /** @override @param {RunState | null} state @param {Run | null} run */
  draw(state, run) {
    const known = state !== null && (state.tail !== null || state.pipeline !== "");
    this.#none.hidden = run !== null;
    this.#body.hidden = !known;
    this.#drawProblem(run, known);
    if (!state || !run) return;
    const { status } = state;
    say(this.#name, state.pipeline);
    say(this.#status, status);
    this.#status.dataset["status"] = status;
    patch(this.#facts, factsOf(state, run));
    const without = new Set((this.getAttribute("without") ?? "").split(/\s+/));
    this.#parts.progress.hidden = without.has("progress");
    this.#parts.questions.hidden = without.has("questions") || state.inputs.length === 0;
    this.#parts.controls.hidden = without.has("controls") || (status === "completed" && this.#actions.assignedElements().length === 0);
    const writes = Object.keys(state.blocks).length + Object.keys(state.drafts).length > 0;
    this.#draft.hidden = without.has("draft") || !writes;
    this.#output.hidden = without.has("output") || status !== "completed";
    this.#parts.output.toggleAttribute("compact", without.has("output-text"));
    if (status === "completed" && this.#finished !== run) {
      // What it came to is of more interest now than how.
      this.#finished = run;
      if (!this.#output.hidden) this.#draft.open = false;
    }
  }

  /** @param {Run | null} run @param {boolean} known */
  #drawProblem(run, known) {
    const { problem = null, connection = null } = run ?? {};
    const lost = connection?.status === "error";
    this.#problem.hidden = !(problem && !known) && !lost;
    if (this.#problem.hidden) {
      if (run && !known) {
        say(this.#none, "Reading the run…");
        this.#none.hidden = false;
      } else say(this.#none, "No run is shown.");
      return;
    }
    patch(this.#problem, [
      el("p", {}, el("b", {}, known ? "The connection is lost." : titleOfProblem(problem))),
      el("p", {}, problem?.message ?? "The gateway could not be reached, however often it was tried."),
    ]);
  }

  #handOn() {
    const { run } = this;
    for (const inner of Object.values(this.#parts)) inner.run = run;
    for (const inner of this.querySelectorAll("*")) if (inner instanceof RunElement) inner.run = run;
  }
}

/** @param {any} problem */
function titleOfProblem(problem) {
  return problem?.status === 404 ? "There is no such run." : "The run could not be read.";
}

/** @param {string} tag */
function part(tag) {
  return /** @type {RunElement} */ (el(/** @type {"div"} */ (tag), { exportparts: EXPORTED }));
}

const EXPORTED =
  "bar, fill, percent, message, stages, question, cancel, pause, resume, retry, live, error, text, copy, download, json, failure";

/** @param {RunState} state @param {Run} run */
function factsOf(state, { connection }) {
  const { id, created_at, started_at, finished_at, usage, status } = state;
  const began = started_at ?? created_at;
  const took = began === null ? "" : lengthOf(Math.floor(((finished_at ?? Date.now()) - began) / 100) * 100);
  const facts = [el("code", {}, id), el("span", {}, timeOf(began)), el("span", {}, took)];
  for (const [name, value] of Object.entries(usage ?? {})) {
    if (typeof value !== "number") continue;
    const shown = name.endsWith("_usd") ? costOf(value) : value.toLocaleString();
    facts.push(el("span", {}, `${name.replace(/_usd$/, "").replaceAll("_", " ")} `, el("b", {}, shown)));
  }
  if (!isFinished(status)) {
    const way = WAYS[connection.status] ?? connection.status;
    facts.push(el("span", { class: "way", "data-status": connection.status }, way));
  }
  return facts;
}
