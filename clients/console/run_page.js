// The open run: hands it to the elements, and shows the way its events take.
//
// Rule 1: the elements draw the run; here is only what concerns the page: its title, the connection, which parts.

import { journalOf } from "../js/elements/journal.js";
import { pictureOf } from "../js/elements/picture.js";
import { isFinished } from "../js/state.js";
import { say } from "../js/elements/dom.js";
import { byId } from "./page.js";
import { recalled } from "./started.js";

/** @typedef {import("../js/run.js").Run} Run */
/** @typedef {import("../js/state.js").RunState} RunState */
/** @typedef {import("../js/elements/element.js").RunElement} RunElement */

const DRAW_EVERY_MS = 60;
const TRANSPORT_NAMES = { sse: "SSE", websocket: "WebSocket", poll: "long-poll" };

export class RunPage {
  /** @type {Run | null} */
  #run = null;
  #leave = () => {};
  #drawing = 0;
  #changed;
  #counting = 0;
  /** The state of the way that was shown last. @type {Run["connection"] | null} */
  #link = null;
  /** When it is tried again, in Unix ms; 0: not waiting. */
  #retryAt = 0;

  /** @param {{changed: (state: RunState) => void}} options */
  constructor({ changed }) {
    this.#changed = changed;
    byId("reconnect").addEventListener("click", () => {
      if (this.#run) journalOf(this.#run).again();
    });
    this.#draw();
  }

  get id() {
    return this.#run?.id ?? null;
  }

  /** Show a run, or none. @param {Run | null} run */
  open(run) {
    this.#leave();
    this.#run = run;
    for (const id of ["panel", "timeline", "log"]) /** @type {RunElement} */ (byId(id)).run = run;
    /** @type {import("../js/elements/picture.js").RunPicture} */ (byId("picture")).known = known(run);
    this.#leave = run ? journalOf(run).look(() => this.#soon()) : () => {};
    this.#draw();
  }

  #soon() {
    this.#drawing ||= window.setTimeout(() => {
      this.#drawing = 0;
      this.#draw();
    }, DRAW_EVERY_MS);
  }

  #draw() {
    const run = this.#run;
    const state = run?.state ?? null;
    const known = state !== null && state.tail !== null;
    byId("idle").hidden = run !== null;
    byId("run").hidden = run === null;
    byId("timeline-panel").hidden = byId("log-panel").hidden = !known;
    byId("delete").hidden = !state || !isFinished(state.status);
    this.#drawConnection();
    byId("panel").setAttribute("without", `connection ${pictureOf(state?.pipeline)?.covers ?? ""}`);
    const doing = known && !isFinished(state.status) ? `${Math.round(state.progress)} % ${state.pipeline} · ` : "";
    document.title = `${doing || (known ? `${state.status}: ${state.pipeline} · ` : "")}Runcast`;
    if (known) this.#changed(state);
  }

  #drawConnection() {
    const link = this.#run?.connection ?? null;
    const { status = "disconnected", transport = "sse", retry_in_ms = null, reason = null } = link ?? {};
    if (link !== this.#link) {
      // Each wait counts from its own beginning.
      this.#link = link;
      this.#retryAt = retry_in_ms === null ? 0 : Date.now() + retry_in_ms;
    }
    const badge = byId("connection");
    badge.dataset["status"] = status;
    say(badge, wordsFor(status, reason, this.#retryAt));
    clearTimeout(this.#counting);
    if (this.#retryAt) this.#counting = window.setTimeout(() => this.#soon(), 250);
    for (const part of document.querySelectorAll("#connection, .over, #transport")) {
      /** @type {HTMLElement} */ (part).hidden = this.#run === null;
    }
    const used = status === "connected" || status === "connecting" || status === "retrying" || reason === "terminal";
    say(byId("transport"), used ? TRANSPORT_NAMES[transport] : "—");
    byId("reconnect").hidden = status !== "error";
  }
}

/** @param {string} status @param {string | null} reason @param {number} retryAt */
function wordsFor(status, reason, retryAt) {
  if (reason === "terminal") return "ended";
  if (status === "connected") return "live";
  if (status === "retrying" && retryAt) return `retrying in ${Math.max(0, Math.ceil((retryAt - Date.now()) / 1000))} s`;
  return status === "connecting" || status === "retrying" ? status : "closed";
}

/** @param {Run | null} run */
function known(run) {
  const { budget_usd } = /** @type {any} */ (run ? recalled(run.id) : null)?.options ?? {};
  return typeof budget_usd === "number" ? { budget_usd } : {};
}
