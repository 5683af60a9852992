// What whoever reads a run must see: every event once and in order, no hole that it is not told of.

import { parseCursor } from "../../../clients/js/cursor.js";

/** @typedef {import("./log.js").Log} Log */
/** @typedef {import("./log.js").LogEvent} LogEvent */
/** @typedef {import("./world.js").World} World */

export class Reader {
  /** The last offset that it has. @type {number | null} */
  at;
  /** Null before it has anything: then the log may still become another one. @type {string | null} */
  epoch = null;
  #world;

  /**
   * `after`: what it has already; null is nothing. `anywhere`: it begins with whatever comes first.
   * @param {World} world @param {string} name @param {{after?: string | null, anywhere?: boolean}} [from]
   */
  constructor(world, name, { after = null, anywhere = false } = {}) {
    this.#world = world;
    this.name = name;
    const cursor = parseCursor(after);
    this.at = anywhere ? null : (cursor?.offset ?? 0);
    this.epoch = cursor?.epoch ?? null;
  }

  /** @param {LogEvent} event */
  take({ id, first }) {
    const { epoch, offset } = /** @type {import("../../../clients/js/cursor.js").Cursor} */ (parseCursor(id));
    this.#world.say(this.name, `has ${first} to ${id}`);
    // Whoever has nothing yet begins anew with a log that does.
    if (this.epoch === null && first === 1) this.at = 0;
    if (this.epoch !== null && epoch !== this.epoch) this.#broken(`another epoch (${id}) without a gap`);
    else if (this.at !== null && first > this.at + 1) this.#broken(`a hole: ${first} to ${id} after ${this.at}`);
    else if (this.at !== null && first <= this.at) this.#broken(`a repetition: ${first} to ${id} after ${this.at}`);
    this.at = offset;
    this.epoch = epoch;
  }

  /** @param {{from: string}} gap */
  gap({ from }) {
    this.#world.say(this.name, `is told of a gap before ${from}`);
    this.at = (parseCursor(from)?.offset ?? 1) - 1;
    this.epoch = null;
  }

  /** @param {Log} log */
  isAtTail(log) {
    return this.at === log.tail && (this.epoch === log.epoch || this.epoch === null);
  }

  /** @param {string} what */
  #broken(what) {
    this.#world.broken(`${this.name} is given ${what}`);
  }
}
