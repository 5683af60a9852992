// Reading a form: values with their places, and errors brought back to those places.
//
// Rule 1: a path is the gateway's: what it says about `["input", "sources", 1]` is shown where that text is typed
// in, even when rows before it were left empty.

import { say } from "./dom.js";

/** @typedef {import("../api.js").FieldError} FieldError */
/** @typedef {(string | number)[]} Path */
/** `input` gets the focus, `error` the words. @typedef {{input: HTMLElement, error: HTMLElement}} Place */

/**
 * `read` gives OMIT when there is nothing to send.
 * @typedef {{node: HTMLElement, place: Place, read: (path: Path, reading: Reading) => unknown}} Widget
 */

export const OMIT = Symbol("omit");

/** What one reading of a form found. */
export class Reading {
  /** @type {FieldError[]} */
  problems = [];
  /** @type {Map<string, Place>} */
  #places = new Map();

  /** @param {Widget} widget @param {Path} path @returns {unknown} */
  of(widget, path) {
    this.#places.set(JSON.stringify(path), widget.place);
    return widget.read(path, this);
  }

  /** @param {Path} path @param {string} message */
  refuse(path, message) {
    this.problems.push({ path, message });
    return OMIT;
  }

  /** The place of a path, or of the nearest thing around it. @param {Path} path @returns {Place | undefined} */
  placeOf(path) {
    for (let length = path.length; length > 0; length--) {
      const place = this.#places.get(JSON.stringify(path.slice(0, length)));
      if (place) return place;
    }
    return undefined;
  }
}

/**
 * Show errors at their fields and give the focus to the first.
 * @param {Reading} reading
 * @param {FieldError[]} errors
 * @returns {FieldError[]} those that belong to no field
 */
export function showErrors(reading, errors) {
  /** @type {Map<Place, string[]>} */
  const told = new Map();
  const homeless = errors.filter((error) => {
    const place = reading.placeOf(error.path);
    if (place) told.set(place, [...(told.get(place) ?? []), error.message]);
    return !place;
  });
  for (const [{ input, error }, messages] of told) {
    say(error, messages.join(" "));
    input.setAttribute("aria-invalid", "true");
  }
  told.keys().next().value?.input.focus();
  return homeless;
}

/** Take every error message away. @param {HTMLElement} within */
export function clearErrors(within) {
  for (const error of within.querySelectorAll(".error")) error.textContent = "";
  for (const input of within.querySelectorAll("[aria-invalid]")) input.removeAttribute("aria-invalid");
}
