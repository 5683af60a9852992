// A run's events as they were heard, kept for those who show them: the log, the timeline, the pictures.
//
// Rule 1: one journal for a run, however many elements look at it; it follows the run while somebody looks and no
// longer, and goes on where it was.
// Rule 2: bounded: the oldest events go, the story of them stays.

import { isFinished } from "../state.js";
import { beginning, tell } from "./story.js";

/** @typedef {import("../state.js").RunEvent} RunEvent */
/** @typedef {import("../run.js").Run} Run */

const MOST = 10_000;

/** @type {WeakMap<object, Journal>} */
const journals = new WeakMap();

/** @param {Run} run */
export function journalOf(run) {
  const known = journals.get(run);
  if (known) return known;
  const journal = new Journal(run);
  journals.set(run, journal);
  return journal;
}

export class Journal {
  /** @type {RunEvent[]} */
  events = [];
  story = beginning();
  /** How many events were heard; changes whenever there is something new. */
  heard = 0;
  /** Goes up when all that was kept is void. */
  era = 0;

  #run;
  /** @type {string | null} */
  #cursor = null;
  #live = true;
  /** @type {Set<() => void>} */
  #lookers = new Set();
  /** @type {AbortController | null} */
  #following = null;

  /** @param {Run} run */
  constructor(run) {
    this.#run = run;
  }

  /** Be told of every change of the run, and of this. @param {() => void} changed @returns {() => void} ends it */
  look(changed) {
    this.#lookers.add(changed);
    this.#follow();
    return () => {
      this.#lookers.delete(changed);
      if (this.#lookers.size === 0) this.#rest();
    };
  }

  /** Whether the run is followed as long as somebody looks. */
  get live() {
    return this.#live;
  }

  set live(live) {
    this.#live = live;
    if (live) this.#follow();
    else this.#rest();
    this.#tell();
  }

  /** After the connection was lost for good. */
  again() {
    this.#rest();
    this.#follow();
  }

  #follow() {
    if (this.#following || !this.#live || this.#lookers.size === 0) return;
    this.#following = new AbortController();
    this.#hear(this.#following.signal);
  }

  #rest() {
    this.#following?.abort();
    this.#following = null;
  }

  /** @param {AbortSignal} signal */
  async #hear(signal) {
    const ignore = this.#run.subscribe(() => this.#tell());
    try {
      for await (const event of this.#run.events({ after: this.#cursor, signal })) this.#keep(event);
    } catch {
      // Why stands in the run's `connection`.
    }
    // Who subscribed is told of the end of the connection, too.
    if (signal.aborted || isFinished(this.#run.state.status)) ignore();
    else signal.addEventListener("abort", ignore);
    this.#tell();
  }

  /** @param {RunEvent} event */
  #keep(event) {
    if (event.type === "gap") {
      this.events = [];
      this.story = beginning();
      this.heard = 0;
      this.era++;
      this.#cursor = null;
    } else {
      this.events.push(event);
      // Dropping a tenth at a time makes it cheap.
      if (this.events.length > MOST * 1.1) this.events.splice(0, this.events.length - MOST);
      tell(this.story, event);
      this.heard++;
      this.#cursor = event.id;
    }
    this.#tell();
  }

  #tell() {
    for (const changed of [...this.#lookers]) changed();
  }
}
