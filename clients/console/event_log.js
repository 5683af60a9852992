// The event log: every event that arrived, newest at the bottom.
//
// Rule 1: bounded: the oldest rows go when there are too many.
// Rule 2: an event's JSON is laid out when its row is opened, not before.

import { anew, atEnd, el, lengthOf } from "./dom.js";

/** @typedef {import("../js/state.js").RunEvent} RunEvent */

const MOST = 2000;

export class EventLog {
  /** @type {RunEvent[]} */
  #waiting = [];
  #list;
  #count;

  /** @param {{list: HTMLElement, count: HTMLElement}} parts */
  constructor({ list, count }) {
    this.#list = list;
    this.#count = count;
  }

  clear() {
    this.#waiting = [];
    anew(this.#list);
  }

  /** They are drawn with the next `draw`. @param {RunEvent[]} events */
  add(events) {
    this.#waiting.push(...events.slice(-MOST));
    if (this.#waiting.length > 2 * MOST) this.#waiting = this.#waiting.slice(-MOST);
  }

  draw() {
    const fresh = this.#waiting.splice(0).slice(-MOST);
    if (fresh.length > 0) {
      atEnd(this.#list, () => {
        this.#list.append(...fresh.map(row));
        while (this.#list.childElementCount > MOST) this.#list.firstElementChild?.remove();
      });
    }
    const rows = this.#list.childElementCount;
    const text = rows === MOST ? `last ${MOST}` : String(rows);
    if (this.#count.textContent !== text) this.#count.textContent = text;
  }
}

/** @param {RunEvent} event */
function row(event) {
  const details = el(
    "details",
    { class: "event", "data-type": event.type },
    el(
      "summary",
      {},
      el("span", { class: "offset" }, event.id.split("-")[1] ?? ""),
      el("time", { datetime: new Date(event.ts).toISOString() }, clock(event.ts)),
      el("span", { class: "type" }, event.type),
      el("span", { class: "gist" }, gist(event)),
    ),
  );
  details.addEventListener("toggle", () => {
    if (details.open && details.childElementCount === 1) {
      details.append(el("pre", { tabindex: 0 }, JSON.stringify(event, null, 2)));
    }
  });
  return el("li", {}, details);
}

/** @param {number} ms */
function clock(ms) {
  return new Date(ms).toLocaleTimeString([], { hour12: false });
}

/** What an event says, in a line. @param {RunEvent} event */
function gist(event) {
  const { type, run, id, ts, ...own } = event;
  if (type === "run.completed") return `in ${lengthOf(own["duration_ms"])}`;
  const said =
    own["error"]?.message ?? own["message"] ?? own["delta"] ?? own["draft"] ?? own["prompt"] ?? own["stage"] ??
    own["tool"] ?? own["model"] ?? own["reason"] ?? own["pipeline"];
  const text = typeof said === "string" ? said : Object.keys(own).length > 0 ? JSON.stringify(own) : "";
  const line = text.slice(0, 160).replace(/\s+/g, " ");
  return type === "progress" ? `${own["progress"]} % ${line}` : line;
}
