// What a run writes: growing text, drafts, questions, and its result.
//
// Rule 1: growing text is appended to, never written again, so a selection in it and its place stay.
// Rule 2: a result is Markdown when it says so by a text `markdown`, otherwise JSON.

import { isFinished } from "../js/state.js";
import { anew, atEnd, byId, el, say, toast } from "./dom.js";
import { markdown } from "./render.js";

/** @typedef {import("../js/state.js").RunState} RunState */

/** The draft box: one part for each block and for each stage's draft. */
export class DraftBox {
  /** @type {Map<string, {part: HTMLElement, text: Text}>} */
  #parts = new Map();
  #box = byId("draft");

  clear() {
    this.#parts.clear();
    anew(this.#box);
  }

  /** @param {RunState} state */
  draw({ blocks, drafts, status }) {
    const texts = [
      ...Object.entries(drafts).map(([stage, text]) => ({ key: `draft ${stage}`, title: `Draft: ${stage}`, text })),
      ...Object.entries(blocks).map(([block, text]) => ({ key: `block ${block}`, title: block, text })),
    ];
    byId("draft-panel").hidden = texts.length === 0;
    this.#box.classList.toggle("growing", !isFinished(status));
    atEnd(this.#box, () => {
      for (const { key, title, text } of texts) this.#write(key, title, text);
    });
  }

  /** @param {string} key @param {string} title @param {string} text */
  #write(key, title, text) {
    let part = this.#parts.get(key);
    if (!part) {
      part = { part: el("section", {}, el("h4", {}, title)), text: document.createTextNode("") };
      part.part.append(el("div", { class: "prose plain" }, part.text));
      this.#parts.set(key, part);
      this.#box.append(part.part);
    }
    const shown = part.text.data;
    if (text === shown) return;
    if (text.startsWith(shown)) part.text.appendData(text.slice(shown.length));
    else part.text.data = text;
  }
}

/** The finished output, with copy and download. */
export class OutputBox {
  /** @type {string | null} */
  #drawn = null;
  #text = "";
  #file = "result.json";

  constructor() {
    byId("copy").addEventListener("click", () => this.#copy());
    byId("download").addEventListener("click", () => this.#download());
  }

  /** @param {RunState | null} state */
  draw(state) {
    const has = state?.status === "completed";
    byId("output-panel").hidden = !has;
    if (!has || this.#drawn === state.id) {
      if (!has) this.#drawn = null;
      return;
    }
    this.#drawn = state.id;
    const { result, pipeline, id } = state;
    const json = JSON.stringify(result ?? null, null, 2);
    const written = typeof result?.markdown === "string";
    this.#text = written ? result.markdown : json;
    this.#file = `${pipeline}-${id.slice(-8)}.${written ? "md" : "json"}`;
    const output = byId("output");
    output.classList.toggle("prose", written);
    output.replaceChildren(...(written ? markdown(result.markdown) : [el("pre", { tabindex: 0 }, json)]));
    byId("result-json").hidden = !written;
    say(byId("result-text"), written ? json : "");
    byId("draft-panel", HTMLDetailsElement).open = false;
  }

  async #copy() {
    try {
      await navigator.clipboard.writeText(this.#text);
      toast("Copied", "good");
    } catch {
      // Without a secure context there is no clipboard: mark the text, so that a key press copies it.
      getSelection()?.selectAllChildren(byId("output"));
      toast("The browser does not allow copying here; the text is selected instead.");
    }
  }

  #download() {
    const url = URL.createObjectURL(new Blob([this.#text], { type: "text/plain;charset=utf-8" }));
    el("a", { href: url, download: this.#file }).click();
    setTimeout(() => URL.revokeObjectURL(url), 10_000);
  }
}

/**
 * The questions that the run waits for.
 * @param {RunState} state
 * @param {(input_id: string, value: unknown) => Promise<void>} answer
 */
export function drawQuestions({ inputs }, answer) {
  const box = byId("questions");
  box.hidden = inputs.length === 0;
  const shown = inputs.map((input) => input.input_id).join(" ");
  if (box.dataset["shown"] === shown) return;
  box.dataset["shown"] = shown;
  box.replaceChildren(...inputs.map((input) => question(input, answer)));
}

/**
 * @param {import("../js/state.js").InputRequest} input
 * @param {(input_id: string, value: unknown) => Promise<void>} answer
 */
function question({ input_id, prompt, schema }, answer) {
  const id = `answer-${input_id}`;
  const texts = !schema || schema.type === "string";
  const input = el("textarea", { id, rows: 2, class: texts ? null : "code" });
  const error = el("p", { class: "error" });
  const form = el(
    "form",
    {
      onsubmit: async (/** @type {SubmitEvent} */ event) => {
        event.preventDefault();
        say(error, "");
        try {
          await answer(input_id, texts ? input.value : JSON.parse(input.value));
        } catch (problem) {
          say(error, /** @type {Error} */ (problem).message);
        }
      },
    },
    el("label", { for: id }, prompt),
    input,
    error,
    el("button", { class: "primary small" }, texts ? "Answer" : "Answer (JSON)"),
  );
  return form;
}
