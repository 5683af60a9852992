// The log of one run (PROTOCOL sections 1 and 3): events that are appended, folded, trimmed and lost.
//
// An event of the model says with which offset it begins (`first`): folded, it holds all from there to its own. So
// whoever reads can tell a hole and a repetition.

import { parseCursor } from "../../../clients/js/cursor.js";

/** @typedef {import("../../../clients/js/state.js").RunEvent & {first: number}} LogEvent */
/** @typedef {{resume: "start" | "resumed" | "gap", at: number, gap: boolean}} Join */

const BLOCK = "b";
/** The most events that are read, and folded, at once. */
const PAGE = 20;

export class Log {
  epoch = "a";
  /** The last offset that is not held any more. */
  floor = 0;
  done = false;
  /** Called whenever something changed. @type {Set<() => void>} */
  watchers = new Set();
  /** @type {LogEvent[]} */
  #events = [];
  #trimmed = "";

  /** @param {string} id */
  constructor(id) {
    this.id = id;
  }

  get tail() {
    return this.floor + this.#events.length;
  }

  /** All words so far. */
  get text() {
    return this.#trimmed + textOf(this.#events);
  }

  /** @param {number} offset */
  cursor(offset) {
    return offset ? `${this.epoch}-${offset}` : null;
  }

  /** @param {"delta" | "x.n" | "run.completed"} type */
  append(type) {
    if (this.done) return;
    const first = this.tail + 1;
    const id = `${this.epoch}-${first}`;
    const fields = type === "delta" ? { block: BLOCK, delta: `${this.epoch}${first},` } : {};
    this.#events.push({ type, run: this.id, id, ts: first, first, ...fields });
    this.done = type === "run.completed";
    this.#changed();
  }

  /** All is lost, and the run goes on in another epoch. */
  lose() {
    if (this.done) return;
    this.epoch = (parseInt(this.epoch, 36) + 1).toString(36);
    this.floor = 0;
    this.#events = [];
    this.#trimmed = "";
    this.#changed();
  }

  /** Retention: the first events go; one at least stays. @param {number} count */
  trim(count) {
    const gone = this.#events.splice(0, Math.min(count, this.#events.length - 1));
    this.floor += gone.length;
    this.#trimmed += textOf(gone);
  }

  /** From where a join with this cursor goes on. @param {string | null} after @returns {Join} */
  join(after) {
    if (!after || after === "0") return { resume: "start", at: this.floor, gap: this.floor > 0 };
    const cursor = parseCursor(after);
    const held = cursor?.epoch === this.epoch && cursor.offset >= this.floor && cursor.offset <= this.tail;
    return held ? { resume: "resumed", at: cursor.offset, gap: false } : { resume: "gap", at: this.floor, gap: true };
  }

  /** Whether nothing will come after this cursor. @param {string | null} after */
  endsAt(after) {
    const { at, gap } = this.join(after);
    return this.done && !gap && at === this.tail;
  }

  /** @param {string | null} after */
  gap(after) {
    return { type: "gap", run: this.id, after: after ?? "0", from: `${this.epoch}-${this.floor + 1}` };
  }

  /** Some events after an offset. @param {number} at @param {string} replay @returns {LogEvent[]} */
  read(at, replay) {
    const events = this.#events.slice(at - this.floor, at - this.floor + PAGE);
    return replay === "full" ? events : folded(events);
  }

  /** The event at an offset that is held. @param {number} offset */
  eventAt(offset) {
    return /** @type {LogEvent} */ (this.#events[offset - this.floor - 1]);
  }

  /** What `GET /runs/{id}` answers. */
  state() {
    const blocks = this.text ? { [BLOCK]: this.text } : {};
    return { id: this.id, status: this.done ? "completed" : "running", tail: this.cursor(this.tail), blocks };
  }

  #changed() {
    for (const watcher of [...this.watchers]) watcher();
  }
}

/** @param {import("../../../clients/js/state.js").RunState} state */
export function wordsOf(state) {
  return state.blocks[BLOCK] ?? "";
}

/** @param {readonly LogEvent[]} events */
function textOf(events) {
  return events.map(({ delta = "" }) => delta).join("");
}

/** Words that follow each other are joined. @param {readonly LogEvent[]} events */
function folded(events) {
  /** @type {LogEvent[]} */
  const kept = [];
  for (const event of events) {
    const last = kept.at(-1);
    const joins = last?.type === "delta" && event.type === "delta";
    if (joins) kept[kept.length - 1] = { ...event, first: last.first, delta: last.delta + event.delta };
    else kept.push(event);
  }
  return kept;
}
