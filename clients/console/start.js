// Starting a run: which pipeline, with what input.
//
// Rule 1: pressing Start again after a request that may or may not have arrived starts no second run: the same body
// keeps its Idempotency-Key until it is started or refused.

import { Problem } from "../js/api.js";
import { el, say } from "../js/elements/dom.js";
import { formFor } from "../js/elements/form.js";
import { clearErrors, OMIT, Reading, showErrors } from "../js/elements/reading.js";
import { byId } from "./page.js";

/** @typedef {{name: string, description: string, input_schema: import("../js/elements/schema.js").Schema}} Pipeline */

const FIRST_CHOICE = "content";

/** @type {import("../js/elements/schema.js").Schema} */
const OPTIONS = {
  type: "object",
  properties: {
    timeout_s: { type: "number", title: "Time limit (seconds)", exclusiveMinimum: 0, maximum: 31_536_000 },
    budget_usd: { type: "number", title: "Budget (US dollars)", exclusiveMinimum: 0 },
    on_disconnect: {
      enum: ["continue", "cancel"],
      title: "When nobody watches any more",
      description: "Go on (the default), or cancel the run.",
    },
  },
};

export class StartForm {
  /** @type {Pipeline[]} */
  #pipelines = [];
  /** @type {import("../js/elements/reading.js").Widget | null} */
  #input = null;
  #options = formFor(OPTIONS, "options");
  /** What was sent and not answered. @type {{body: string, key: string} | null} */
  #unanswered = null;
  #read;
  #start;

  /**
   * @param {{read: () => Promise<{pipelines: Pipeline[]}>,
   *   start: (pipeline: string, input: unknown, options: object, key: string) => Promise<void>}} options
   */
  constructor({ read, start }) {
    this.#read = read;
    this.#start = start;
    byId("options-fields").append(this.#options.node);
    this.#select.addEventListener("change", () => this.#show());
    byId("form", HTMLFormElement).addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
    byId("pipelines-again").addEventListener("click", () => this.load());
  }

  get #select() {
    return byId("pipeline", HTMLSelectElement);
  }

  /** Read the pipelines. @returns {Promise<string[]>} their names */
  async load() {
    byId("pipelines-failed").hidden = true;
    try {
      this.#pipelines = (await this.#read()).pipelines;
    } catch (error) {
      say(byId("pipelines-why"), /** @type {Error} */ (error).message);
      byId("pipelines-failed").hidden = false;
      return [];
    }
    this.#select.replaceChildren(...this.#pipelines.map(({ name }) => el("option", { value: name }, name)));
    const first = this.#pipelines.find(({ name }) => name === FIRST_CHOICE) ?? this.#pipelines[0];
    if (first) this.#select.value = first.name;
    byId("no-pipelines").hidden = this.#pipelines.length > 0;
    byId("form").hidden = this.#pipelines.length === 0;
    this.#show();
    return this.#pipelines.map(({ name }) => name);
  }

  #show() {
    const pipeline = this.#pipelines.find(({ name }) => name === this.#select.value);
    if (!pipeline) return;
    say(byId("pipeline-about"), pipeline.description);
    this.#input = formFor(pipeline.input_schema, "input");
    byId("fields").replaceChildren(this.#input.node);
    say(byId("form-error"), "");
  }

  async #submit() {
    const form = byId("form");
    const button = byId("start", HTMLButtonElement);
    if (!this.#input || button.disabled) return;
    clearErrors(form);
    say(byId("form-error"), "");
    const reading = new Reading();
    const input = reading.of(this.#input, ["input"]);
    const options = reading.of(this.#options, ["options"]);
    if (reading.problems.length > 0) return this.#refused(reading, reading.problems);
    const given = /** @type {object} */ (options === OMIT ? {} : options);
    const pipeline = this.#select.value;
    button.disabled = true;
    try {
      await this.#start(pipeline, input, given, this.#keyFor([pipeline, input, given]));
      this.#unanswered = null;
    } catch (error) {
      const problem = error instanceof Problem ? error : null;
      if (problem && problem.status >= 400 && problem.status < 500) this.#unanswered = null;
      if (problem?.errors.length) this.#refused(reading, problem.errors);
      else say(byId("form-error"), /** @type {Error} */ (error).message);
    } finally {
      button.disabled = false;
    }
  }

  /** @param {Reading} reading @param {import("../js/api.js").FieldError[]} errors */
  #refused(reading, errors) {
    const optional = byId("options-panel", HTMLDetailsElement);
    if (errors.some(({ path }) => path[0] === "options")) optional.open = true;
    const homeless = showErrors(reading, errors);
    const text = homeless.map(({ path, message }) => `${path.join(".")}: ${message}`).join(" ");
    say(byId("form-error"), text || "Please look at the marked fields.");
  }

  /** @param {unknown} body */
  #keyFor(body) {
    const text = JSON.stringify(body);
    if (this.#unanswered?.body !== text) this.#unanswered = { body: text, key: randomKey() };
    return this.#unanswered.key;
  }
}

/** Also without a secure context, where `crypto.randomUUID` is not there. */
function randomKey() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
