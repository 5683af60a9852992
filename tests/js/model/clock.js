// Virtual time: what waits runs when its time comes, in order, and nothing waits for a real clock.
//
// Modelled: the timers and the clock of everything in this process; and browser tabs: what a tab's code waits for
// runs in that tab, which takes no more part once it is dead, and catches up after it hung.

import { AsyncLocalStorage } from "node:async_hooks";

/** @typedef {{id: number, dead: boolean, hungUntil: number}} Tab */
/**
 * `at`: when it runs; `due`: when it would, had its tab not hung; `every`: how often it comes back; `client`: set by the
 * code under test, not by the world around it; `ms`: for how long it was set then.
 * @typedef {{work: () => void, tab: Tab | null, every: number | null, client: boolean, ms?: number}} Task
 * @typedef {Task & {at: number, due: number, cancelled: boolean}} Timer
 */
/** @typedef {(ms: number, work: () => void) => void} Wire */

const START = Date.UTC(2030, 0);
/** A client that tries again and again without a pause would never let the time go on. */
const MOST_STEPS = 500_000;
/** One that does so at once would never give anybody a turn. */
const MOST_LOOKS = 100_000;

const real = { setTimeout, setInterval, clearTimeout, clearInterval, now: Date.now, random: Math.random };
const afterThis = globalThis.setImmediate;
/** @type {AsyncLocalStorage<Tab | null>} */
const running = new AsyncLocalStorage();

/** Whose code runs now. */
export function currentTab() {
  return running.getStore() ?? null;
}

/** @template T @param {Tab | null} tab @param {() => T} work @returns {T} */
export function inTab(tab, work) {
  return running.run(tab, work);
}

export class Clock {
  now = START;
  /** In the order in which they are due. @type {Timer[]} */
  #timers = [];
  #steps = 0;
  /** At the time, since it went on. */
  #looks = 0;

  /** Milliseconds since the beginning. */
  get passed() {
    return this.now - START;
  }

  /** How many timers of the client are still set; those that were set for so long do not count. @param {number} [apart] */
  left(apart) {
    return this.#timers.filter(({ client, cancelled, tab, ms }) => client && !cancelled && !tab?.dead && ms !== apart).length;
  }

  /**
   * Something that the world around the client does.
   * @param {number} ms
   * @param {() => void} work
   * @param {Tab | null} [tab]
   */
  later(ms, work, tab = null) {
    return this.#add(this.now + ms, { work, tab, every: null, client: false });
  }

  /** A way on which nothing is overtaken, however long each takes. @param {Tab | null} [tab] @returns {Wire} */
  wire(tab = null) {
    let last = 0;
    return (ms, work) => {
      last = Math.max(last, this.now + ms);
      this.#add(last, { work, tab, every: null, client: false });
    };
  }

  /** @param {number} ms */
  async advance(ms) {
    const end = this.now + ms;
    await quiet();
    for (let next; (next = this.#timers[0]) && next.at <= end; ) {
      this.#timers.shift();
      this.now = Math.max(this.now, next.at);
      if (next.cancelled || next.tab?.dead) continue;
      if (next.tab && next.tab.hungUntil > this.now) {
        this.#insert(Object.assign(next, { at: next.tab.hungUntil }));
        continue;
      }
      if (++this.#steps > MOST_STEPS) throw new Error(`more than ${MOST_STEPS} things happened`);
      this.#looks = 0;
      inTab(next.tab, next.work);
      if (next.every !== null && !next.cancelled) this.#again(next, this.now + next.every);
      await quiet();
    }
    this.now = end;
  }

  /**
   * Until the work is done, all of this process lives by this clock and this chance.
   * @param {() => number} random
   * @param {() => Promise<void>} work
   */
  async rule(random, work) {
    /** @type {(every: number | null, ms: number, work: () => void) => Timer} */
    const set = (every, ms, work) => this.#add(this.now + ms, { work, tab: currentTab(), every, client: true, ms });
    /** @type {(run: (...words: any[]) => void, ms?: number, ...words: any[]) => Timer} */
    const setTimeout = (run, ms = 0, ...words) => set(null, Math.max(0, ms), () => run(...words));
    /** @type {(run: () => void, ms: number) => Timer} */
    const setInterval = (run, ms) => set(ms, ms, run);
    const clear = (/** @type {Timer | undefined} */ timer) => void (timer && (timer.cancelled = true));
    Object.assign(globalThis, { setTimeout, setInterval, clearTimeout: clear, clearInterval: clear });
    Date.now = () => {
      if (++this.#looks > MOST_LOOKS) throw new Error(`looked at the time ${MOST_LOOKS} times while it stood still`);
      return Math.floor(this.now);
    };
    Math.random = random;
    try {
      await work();
    } finally {
      const { now, random: chance, ...timers } = real;
      Object.assign(globalThis, timers);
      Date.now = now;
      Math.random = chance;
    }
  }

  /** @param {number} at @param {Task} task */
  #add(at, task) {
    const timer = Object.assign(task, { at, due: at, cancelled: false });
    this.#insert(timer);
    return timer;
  }

  /** @param {Timer} timer @param {number} at */
  #again(timer, at) {
    this.#insert(Object.assign(timer, { at, due: at }));
  }

  /** Behind all that come before it or at the same time. @param {Timer} timer */
  #insert(timer) {
    let [low, high] = [0, this.#timers.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      const other = /** @type {Timer} */ (this.#timers[middle]);
      if (other.at < timer.at || (other.at === timer.at && other.due <= timer.due)) low = middle + 1;
      else high = middle;
    }
    this.#timers.splice(low, 0, timer);
  }
}

/** Until all that happens without a timer has happened. */
async function quiet() {
  await new Promise((resolve) => afterThis(resolve));
}
