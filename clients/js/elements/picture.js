// <run-picture>: the picture that belongs to the run's pipeline; none when there is none.
//
// Rule 1: a picture is a pure function of state and story to elements; here it is kept on the page, and its buttons
// (`data-action`) become the event `run-action` with the run, the action and its argument.

import { patch } from "./dom.js";
import { RunElement } from "./element.js";
import { journalOf } from "./journal.js";
import { agent } from "./pictures/agent.js";
import { autopilot } from "./pictures/autopilot.js";
import { campaign } from "./pictures/campaign.js";
import { content } from "./pictures/content.js";
import { crew } from "./pictures/crew.js";
import { generation } from "./pictures/generation.js";

/** @typedef {import("../state.js").RunState} RunState */
/** @typedef {import("../run.js").Run} Run */

/**
 * `covers`: what a panel need not show beside it; `draw` gives nothing as long as there is nothing to see.
 * @typedef {object} Picture
 * @property {string} label
 * @property {string} covers
 * @property {(state: RunState, story: import("./story.js").Story, known: Known) => Node[]} draw
 */
/** What the page knows of a run and its events do not tell. @typedef {{budget_usd?: number}} Known */

/** @type {Readonly<Record<string, Picture>>} */
export const PICTURES = { agent, autopilot, campaign, content, crew, generation };

/** @param {string | undefined} pipeline @returns {Picture | null} */
export function pictureOf(pipeline = "") {
  return Object.hasOwn(PICTURES, pipeline) ? (PICTURES[pipeline] ?? null) : null;
}

export class RunPicture extends RunElement {
  /** @override */
  static pace = 150;
  #seen = "";
  /** @type {Known} */
  #known = {};

  get known() {
    return this.#known;
  }

  set known(known) {
    this.#known = known;
    this.#seen = "";
    this.changed();
  }

  constructor() {
    super();
    this.box.addEventListener("click", (event) => {
      const button = /** @type {Element} */ (event.target).closest("[data-action]");
      if (!button || !this.run) return;
      const action = button.getAttribute("data-action");
      this.tell("run-action", { run: this.run, action, argument: button.getAttribute("data-argument") });
    });
  }

  /** @override */
  begin() {
    this.#seen = "";
    this.box.replaceChildren();
  }

  /** @override @param {RunState | null} state @param {Run | null} run */
  draw(state, run) {
    const picture = pictureOf(state?.pipeline);
    if (!state || !run || !picture) return;
    const { era, heard, story } = journalOf(run);
    const seen = `${era} ${heard} ${state.tail} ${state.status}`;
    if (seen === this.#seen) return;
    this.#seen = seen;
    const drawn = picture.draw(state, story, this.#known);
    this.hidden = drawn.length === 0;
    this.setAttribute("role", "group");
    this.setAttribute("aria-label", picture.label);
    patch(this.box, drawn);
  }
}
