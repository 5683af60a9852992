// <run-panel>: a whole run: what it is, how far, what it asks, what can be asked of it, what it writes and has written.
//
// Rule 1: it is made of the other elements and hands them its run; those that stand inside it on the page, too.
// Rule 2: `without="draft output"` leaves parts out: progress, questions, controls, draft, output, connection; or
// `output-text`, which leaves of the output what can be done with it.

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

/** @type {Readonly<Record<string, string>>} */
const WHY = {
  unauthorized: "The token was refused, also after a fresh one was fetched.",
  forbidden: "This token does not allow reading the run.",
  not_found: "It was deleted, it never existed, or it belongs to someone else.",
  protocol: "The gateway closed the connection because of a mistake in this client.",
  exhausted: "The gateway could not be reached, however often it was tried.",
};

export class RunPanel extends RunElement {
  /** @override */
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
    // What the page puts beside the buttons.
    this.#parts.controls.append(el("slot", { name: "actions" }));
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
    else super.attributeChangedCallback(name);
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
    const without = new Set((this.getAttribute("without") ?? "").split(/\s+/));
    patch(this.#facts, factsOf(state, without.has("connection") ? null : run.connection.status));
    this.#parts.progress.hidden = without.has("progress");
    this.#parts.questions.hidden = without.has("questions") || state.inputs.length === 0;
    this.#parts.controls.hidden = without.has("controls");
    const writes = Object.keys(state.blocks).length + Object.keys(state.drafts).length > 0;
    this.#draft.hidden = without.has("draft") || !writes;
    this.#output.hidden = without.has("output") || !(status === "completed" || status === "failed");
    this.#parts.output.toggleAttribute("compact", without.has("output-text"));
    if (status === "completed" && this.#finished !== run) {
      // What it came to is of more interest now than how.
      this.#finished = run;
      if (!this.#output.hidden) this.#draft.open = false;
    }
  }

  /** @param {Run | null} run @param {boolean} known */
  #drawProblem(run, known) {
    const { problem = null, status = "disconnected", reason = null } = run?.connection ?? {};
    this.#problem.hidden = status !== "error";
    if (this.#problem.hidden) {
      if ((run || this.hasAttribute("run-id")) && !known) {
        say(this.#none, "Reading the run…");
        this.#none.hidden = false;
      } else say(this.#none, "No run is shown.");
      return;
    }
    patch(this.#problem, [
      el(
        "p",
        {},
        el(
          "b",
          {},
          reason === "not_found"
            ? "There is no such run."
            : known
              ? "The connection is lost."
              : "The run could not be read.",
        ),
      ),
      el("p", {}, WHY[reason ?? ""] ?? problem?.message ?? "The connection is closed."),
    ]);
  }

  #handOn() {
    const { run } = this;
    for (const inner of Object.values(this.#parts)) inner.run = run;
    for (const inner of this.querySelectorAll("*")) if (inner instanceof RunElement) inner.run = run;
  }
}

/** @param {string} tag */
function part(tag) {
  return /** @type {RunElement} */ (/** @type {unknown} */ (el(/** @type {"div"} */ (tag), { exportparts: EXPORTED })));
}

const EXPORTED =
  "bar, fill, percent, message, stages, question, cancel, pause, resume, retry, live, error, text, copy, download, " +
  "json, failure";

/** @param {RunState} state @param {string | null} connection */
function factsOf(state, connection) {
  const { id, created_at, started_at, finished_at, usage, status } = state;
  const began = started_at ?? created_at;
  const took = began === null ? "" : lengthOf(Math.floor(((finished_at ?? Date.now()) - began) / 100) * 100);
  const facts = [el("code", {}, id), el("span", {}, timeOf(began)), el("span", {}, took)];
  for (const [name, value] of Object.entries(usage ?? {})) {
    if (typeof value !== "number") continue;
    const shown = name.endsWith("_usd") ? costOf(value) : value.toLocaleString();
    facts.push(el("span", {}, `${name.replace(/_usd$/, "").replaceAll("_", " ")} `, el("b", {}, shown)));
  }
  if (connection && !isFinished(status)) {
    facts.push(el("span", { class: "way", "data-status": connection }, WAYS[connection] ?? connection));
  }
  return facts;
}
