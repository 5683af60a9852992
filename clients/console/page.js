// The page itself: its parts by their ids, words that come and go, and questions that must be answered.

import { el } from "../js/elements/dom.js";

/**
 * The element of index.html with this id. Throws when the page has none of that kind.
 * @template {HTMLElement} [Kind=HTMLElement]
 * @param {string} id
 * @param {new () => Kind} [kind]
 * @returns {Kind}
 */
export function byId(id, kind = /** @type {new () => Kind} */ (/** @type {unknown} */ (HTMLElement))) {
  const element = document.getElementById(id);
  if (!(element instanceof kind)) throw new TypeError(`the page has no ${kind.name} #${id}`);
  return element;
}

/** A message that goes away by itself; failures stay longer. @param {string} text @param {"good" | "bad"} [tone] */
export function toast(text, tone = "bad") {
  const item = el("div", { class: `toast ${tone}` }, text);
  const dismiss = () => item.remove();
  item.append(el("button", { type: "button", class: "quiet", "aria-label": "Dismiss", onclick: dismiss }, "×"));
  byId("toasts").append(item);
  setTimeout(() => item.remove(), tone === "bad" ? 10_000 : 4_000);
}

/** Ask before what cannot be undone. @param {string} question @param {string} action @returns {Promise<boolean>} */
export function confirmed(question, action) {
  return new Promise((resolve) => {
    /** @param {boolean} answer */
    const settle = (answer) => () => {
      dialog.remove();
      resolve(answer);
    };
    const dialog = el(
      "dialog",
      { id: "confirm", oncancel: settle(false), "aria-labelledby": "confirm-question" },
      el("p", { id: "confirm-question" }, question),
      el(
        "div",
        { class: "actions" },
        el("button", { type: "button", id: "confirm-no", onclick: settle(false) }, "Keep it"),
        el("button", { type: "button", id: "confirm-yes", class: "danger", onclick: settle(true) }, action),
      ),
    );
    document.body.append(dialog);
    dialog.showModal();
  });
}
