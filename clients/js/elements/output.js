// <run-output>: what the run has come to: its result to read, to copy and to take away; or why there is none.
//
// Rule 1: with the attribute `compact` the text is not shown, only what can be done with it.
// Rule 2: a result is a text when it says so by `markdown`, `report`, `answer` or `text`; otherwise it is JSON.

import { el, patch, say } from "./dom.js";
import { RunElement } from "./element.js";
import { icon } from "./icons.js";
import { markdown } from "./render.js";

/** @typedef {import("../state.js").RunState} RunState */

const TEXTS = ["markdown", "report", "answer", "text"];

export class RunOutput extends RunElement {
  #none = el("p", { part: "empty", class: "empty" });
  #failure = el("div", { part: "failure", class: "notice bad", role: "alert" });
  #said = el("span", { class: "faint", role: "status" });
  #text = el("div", { part: "text", class: "output" });
  #json = el("pre", { tabindex: 0, role: "region", "aria-label": "Result as JSON" });
  #whole = el("details", { part: "json", class: "json" }, el("summary", {}, "Whole result as JSON"), this.#json);
  #bar = el(
    "div",
    { class: "bar-of-buttons" },
    el("slot", { name: "title" }),
    this.#said,
    el("button", { type: "button", part: "copy", class: "small", onclick: () => this.#copy() }, icon("copy"), "Copy"),
    el(
      "button",
      { type: "button", part: "download", class: "small", onclick: () => this.#download() },
      icon("download"),
      "Download",
    ),
  );
  #shown = "";
  #content = "";
  #file = "";
  /** Whether the result is a text. */
  #written = false;

  constructor() {
    super();
    this.box.append(this.#none, this.#failure, this.#bar, this.#text, this.#whole);
  }

  /** @override @param {RunState | null} state */
  draw(state) {
    const status = state?.status ?? "none";
    const done = status === "completed";
    this.#none.hidden = done || status === "failed";
    this.#failure.hidden = status !== "failed";
    for (const part of [this.#bar, this.#text]) part.hidden = !done;
    say(this.#none, status === "cancelled" ? "The run was cancelled: it has no result." : "There is no result yet.");
    if (state?.status === "failed") patch(this.#failure, failureOf(state));
    this.#whole.hidden = !done || (!this.#written && !this.hasAttribute("compact"));
    const shown = done ? `${state?.id} ${state?.tail}` : "";
    if (shown === this.#shown) return;
    this.#shown = shown;
    say(this.#said, "");
    if (state && done) this.#finish(state);
  }

  /** @param {RunState} state */
  #finish({ id, pipeline, result }) {
    const json = JSON.stringify(result ?? null, null, 2);
    const text = textOf(result);
    this.#content = text ?? json;
    this.#file = `${pipeline || "run"}-${id.slice(-8)}.${text === null ? "json" : "md"}`;
    this.#text.classList.toggle("prose", text !== null);
    const plain = () => el("pre", { tabindex: 0, role: "region", "aria-label": "Result" }, json);
    this.#text.replaceChildren(...(text === null ? [plain()] : markdown(text)));
    this.#written = text !== null;
    say(this.#json, json);
    this.changed();
  }

  async #copy() {
    try {
      await navigator.clipboard.writeText(this.#content);
      say(this.#said, "Copied");
    } catch {
      // Without a secure context there is no clipboard: mark the text, so that a key press copies it.
      getSelection()?.selectAllChildren(this.#text);
      say(this.#said, "The browser does not allow copying here; the text is selected instead.");
    }
  }

  #download() {
    const url = URL.createObjectURL(new Blob([this.#content], { type: "text/plain;charset=utf-8" }));
    el("a", { href: url, download: this.#file }).click();
    setTimeout(() => URL.revokeObjectURL(url), 10_000);
  }
}

/** The result as Markdown, if it is a text. @param {any} result @returns {string | null} */
export function textOf(result) {
  if (typeof result === "string") return result;
  for (const name of TEXTS) if (typeof result?.[name] === "string") return result[name];
  return null;
}

/** @param {RunState} state */
function failureOf({ error }) {
  const told = error?.message.includes(error.incident ?? "") ?? true;
  const incident = told ? "" : ` Incident ${error?.incident}`;
  const hint = error?.retryable ? "It may well work when it is tried again." : "";
  return [
    el("p", {}, el("b", {}, error?.message ?? "The run failed.")),
    el("p", {}, el("code", {}, error?.code ?? ""), " ", hint, incident),
  ];
}
