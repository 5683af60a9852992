// <run-questions>: what the run asks its viewers, with a form for each answer (`input.requested`).
//
// Rule 1: the form follows the question's JSON Schema; the gateway is the judge of the answer.
// Rule 2: a form that is being filled in is never drawn again.

import { el, say } from "./dom.js";
import { RunElement } from "./element.js";
import { formFor } from "./form.js";
import { clearErrors, OMIT, Reading, showErrors } from "./reading.js";

/** @typedef {import("../state.js").RunState} RunState */
/** @typedef {import("../state.js").InputRequest} InputRequest */

export class RunQuestions extends RunElement {
  /** @type {Map<string, HTMLElement>} */
  #forms = new Map();
  #list = el("div", { class: "questions", role: "group", "aria-label": "Questions of the run" });

  constructor() {
    super();
    this.box.append(this.#list);
  }

  /** @override */
  begin() {
    this.#forms.clear();
    this.#list.replaceChildren();
  }

  /** @override @param {RunState | null} state */
  draw(state) {
    const open = state?.inputs ?? [];
    for (const [id, form] of this.#forms) {
      if (open.some(({ input_id }) => input_id === id)) continue;
      form.remove();
      this.#forms.delete(id);
    }
    for (const question of open) {
      if (this.#forms.has(question.input_id)) continue;
      const form = this.#form(question);
      this.#forms.set(question.input_id, form);
      this.#list.append(form);
    }
    this.#list.hidden = open.length === 0;
  }

  /** @param {InputRequest} question */
  #form({ input_id, prompt, schema }) {
    const name = `answer-${input_id}`;
    const error = el("p", { class: "error", role: "alert" });
    const yesNo = schema?.type === "boolean";
    const widget = yesNo ? null : formFor({ title: "Your answer", ...(schema ?? { type: "string" }) }, name);
    /** @param {unknown} value */
    const send = async (value) => {
      say(error, "");
      for (const button of form.querySelectorAll("button")) button.disabled = true;
      try {
        await this.run?.input(input_id, value);
      } catch (problem) {
        say(error, /** @type {Error} */ (problem).message);
        this.tell("run-error", { run: this.run, error: problem });
        for (const button of form.querySelectorAll("button")) button.disabled = false;
      }
    };
    const submit = (/** @type {SubmitEvent} */ event) => {
      event.preventDefault();
      if (!widget) return;
      clearErrors(form);
      const reading = new Reading();
      const value = reading.of(widget, ["value"]);
      if (reading.problems.length > 0) showErrors(reading, reading.problems);
      else send(value === OMIT ? null : value);
    };
    const answers = yesNo
      ? [
          el("button", { type: "button", class: "primary", onclick: () => send(true) }, "Yes"),
          el("button", { type: "button", onclick: () => send(false) }, "No"),
        ]
      : [el("button", { class: "primary" }, "Answer")];
    const form = el(
      "form",
      { novalidate: true, onsubmit: submit, "aria-label": prompt },
      el("p", { class: "prompt" }, prompt),
      widget?.node,
      error,
      el("div", { class: "actions" }, ...answers),
    );
    return el("section", { part: "question", class: "notice" }, form);
  }
}
