// <run-controls>: what can be asked of a run: cancel, pause, resume, try again; and whether to watch it live.
//
// Rule 1: a button is there when it makes sense; what is asked once is not asked again until it was answered.
// Rule 2: whoever works by keyboard does not lose their place: a button that goes hands its focus to the next.
// Rule 3: what goes wrong is said beside the buttons, and told to the page as `run-error`.

import { isFinished } from "../state.js";
import { el, say } from "./dom.js";
import { RunElement } from "./element.js";
import { icon } from "./icons.js";
import { journalOf } from "./journal.js";

/** @typedef {import("../state.js").RunState} RunState */
/** @typedef {import("../run.js").Run} Run */
/** @typedef {import("./icons.js").Icon} Icon */

export class RunControls extends RunElement {
  /** Those whose answer has not come yet. @type {Set<HTMLButtonElement>} */
  #asking = new Set();
  #cancel = this.#button("cancel", "Cancel", "stop", (run) =>
    run.cancel(this.getAttribute("reason") ?? "stopped by its viewer"),
  );
  #pause = this.#button("pause", "Pause", "pause", (run) => run.pause());
  #resume = this.#button("resume", "Resume", "play", (run) => run.resume());
  #retryWords = el("span", {}, "Retry");
  #retry = this.#button("retry", this.#retryWords, "again", (run) => this.#again(run));
  #buttons = [this.#pause, this.#resume, this.#cancel, this.#retry];
  #live = el("button", { type: "button", part: "live", role: "switch", onclick: () => this.#toggle() }, "Live");
  #error = el("p", { part: "error", class: "error", role: "alert" });

  constructor() {
    super();
    this.#resume.classList.add("primary");
    this.box.append(el("div", { class: "actions" }, ...this.#buttons, el("slot"), this.#live), this.#error);
  }

  /** @override */
  begin() {
    say(this.#error, "");
  }

  /** @override @param {RunState | null} state @param {Run | null} run */
  draw(state, run) {
    const status = state?.status ?? "none";
    const over = !state || isFinished(status);
    const focused = this.#buttons.find((button) => button === this.box.activeElement);
    this.#cancel.hidden = over;
    this.#cancel.setAttribute("aria-disabled", String(status === "cancelling" || this.#asking.has(this.#cancel)));
    this.#pause.hidden = !(status === "running" || status === "queued");
    this.#resume.hidden = status !== "paused";
    this.#retry.hidden = !state || !over;
    say(this.#retryWords, status === "completed" ? "Run again" : "Retry");
    this.#retry.classList.toggle("primary", status === "failed");
    this.#live.hidden = over;
    this.#live.setAttribute("aria-checked", String(run !== null && journalOf(run).live));
    this.#live.title = "Off: this page takes no events until it is on again. The run itself goes on.";
    if (focused?.hidden) this.#buttons.find((button) => !button.hidden)?.focus();
  }

  /**
   * @param {string} name
   * @param {string | Node} label
   * @param {Icon} picture
   * @param {(run: Run) => Promise<unknown>} ask
   */
  #button(name, label, picture, ask) {
    const button = el("button", { type: "button", part: name, onclick: () => press() }, icon(picture), label);
    const press = async () => {
      const { run } = this;
      if (!run || button.getAttribute("aria-disabled") === "true") return;
      this.#asking.add(button);
      // A disabled button would lose the focus.
      button.setAttribute("aria-disabled", "true");
      say(this.#error, "");
      try {
        await ask(run);
      } catch (error) {
        say(this.#error, /** @type {Error} */ (error).message);
        this.tell("run-error", { run, error });
      } finally {
        this.#asking.delete(button);
        button.setAttribute("aria-disabled", "false");
        this.changed();
      }
    };
    return button;
  }

  /** The page may show the new run in its own way; otherwise whoever is around these buttons does. @param {Run} run */
  async #again(run) {
    const next = await run.retry();
    if (this.tell("run-retried", { run: next, before: run })) this.run = next;
  }

  #toggle() {
    const journal = this.run && journalOf(this.run);
    if (journal) journal.live = !journal.live;
  }
}
