// All tabs of a browser over one connection: one tab holds it and passes on what comes (`import … from "runcast/tabs"`).
//
// Rule 1: the browser decides who leads: the tab that has the lock. When it dies, or is silent for too long, the next
// one has it. Nothing of a run's is kept by the leader alone, so nothing is lost with it.
// Rule 2: an event is passed on with the cursor of the one before it. A tab that has not got that far (it came later,
// slept, or the leader changed) reads what it lacks from the log first. So a tab never has to be told what it missed.
// Rule 3: a tab takes part only while it follows something; a tab that went is found out by its own lock.

import { Problem } from "./api.js";
import { AWAY, CONNECTING } from "./late.js";
import { follows, parseCursor } from "./cursor.js";
import { debug } from "./debug.js";
import { Leader } from "./leader.js";
import { isTerminal } from "./state.js";

/** @typedef {import("./connection.js").Subscription} Subscription */
/** @typedef {import("./connection.js").Link} Link */
/** @typedef {import("./client.js").Connections} Connections */
/** @typedef {import("./state.js").RunEvent} RunEvent */

/** @typedef {import("./leader.js").Word} Word */
/** @typedef {{channel: BroadcastChannel, ending: AbortController, known: boolean}} Part `known`: its lock is held. */

const AGAIN_MS = 1_000;

/**
 * For `new Client({ share: tabs() })`. All tabs of one origin that give the same name, gateway and `replay` share; they
 * must be the same person's. Where there are no Web Locks (no secure context, no browser) the tab has its own connection.
 * `patience`: how many ms a tab that leads may say nothing before another takes its place.
 * @param {string} [name]
 * @param {{patience?: number}} [options]
 * @returns {import("./client.js").Share}
 */
export function tabs(name = "runcast", { patience = 15_000 } = {}) {
  return (own, near) => {
    if (!globalThis.navigator?.locks || !globalThis.BroadcastChannel) return own(near.changed);
    return new Tabs(`${name} ${near.base} ${near.replay}`, { own, patience, ...near });
  };
}

/** @implements {Connections} */
class Tabs {
  #name;
  #near;
  #id = "";
  #say = debug("tabs");
  /** @type {Map<string, Subscription>} */
  #subscriptions = new Map();
  /** What is being given to each run: one thing after the other. @type {Map<string, Promise<void>>} */
  #giving = new Map();
  /** Who was told of a gap, and of no event after it yet. @type {WeakSet<Subscription>} */
  #lost = new WeakSet();
  /** While it takes part. @type {Part | null} */
  #part = null;
  /** While it leads. @type {Leader | null} */
  #leader = null;
  #link = AWAY;
  #heardAt = 0;

  /**
   * @param {string} name
   * @param {{own: (changed: () => void) => Connections, patience: number} & import("./client.js").Near} near
   */
  constructor(name, near) {
    this.#name = name;
    this.#near = near;
  }

  get connections() {
    if (this.#leader) return this.#leader.connections;
    return this.#part ? [{ ...this.#link, runs: [...this.#subscriptions.keys()] }] : [];
  }

  /** @param {Subscription} subscription */
  join(subscription) {
    this.#subscriptions.set(subscription.run, subscription);
    this.#linked(subscription.run, CONNECTING);
    if (this.#part) this.#want();
    else this.#takePart();
  }

  /** @param {Subscription} subscription */
  leave(subscription) {
    if (this.#subscriptions.get(subscription.run) === subscription) this.#subscriptions.delete(subscription.run);
    // Whatever comes instead comes at once.
    setTimeout(() => (this.#subscriptions.size ? this.#want() : this.#end()));
  }

  /** @type {import("./transports.js").Command} */
  command = async (type, fields) => this.#leader?.command(type, fields) ?? null;

  wake() {
    this.#tell({ type: "wake" });
  }

  #takePart() {
    const channel = new BroadcastChannel(this.#name);
    // A new one each time: a leader may still wait for the lock of the one before.
    this.#id = Math.random().toString(36).slice(2);
    const ending = new AbortController();
    const { signal } = ending;
    const { patience } = this.#near;
    /** @type {Part} */
    const part = (this.#part = { channel, ending, known: false });
    channel.onmessage = ({ data }) => {
      this.#hear(data);
      // A tab that hung may say how its own connection is before it knows that it leads no more.
      if (data.type === "link") this.#leader?.link(data.run);
    };
    this.#heardAt = Date.now();
    const watch = setInterval(() => {
      if (this.#leader) this.#tell({ type: "alive" });
      // The timers of hidden tabs are slowed down, so they neither take each other for dead nor are in a hurry.
      else if (!globalThis.document?.hidden && Date.now() - this.#heardAt > patience) this.#lead(signal, true);
    }, patience / 4);
    signal.addEventListener("abort", () => {
      clearInterval(watch);
      this.#leader?.end();
      this.#leader = null;
      channel.close();
      this.#near.changed();
    });
    // Held as long as the tab takes part. It wants nothing before: whoever got the lock first would take it for gone.
    hold(`${this.#name} ${this.#id}`, signal, {
      begun: () => {
        part.known = true;
        this.#want();
      },
    });
    this.#lead(signal, false);
  }

  #end() {
    const part = this.#part;
    this.#part = null;
    part?.ending.abort();
  }

  /** @param {AbortSignal} signal @param {boolean} steal */
  #lead(signal, steal) {
    this.#heardAt = Date.now();
    /** @type {Leader | undefined} */
    let leader;
    hold(`${this.#name} leader`, signal, {
      steal,
      begun: () => {
        this.#say("leads");
        this.#leader?.end(); // it may steal the lock from itself
        this.#leader = leader = new Leader(this.#name, {
          own: this.#near.own,
          changed: this.#near.changed,
          tell: (word) => this.#tell(word),
        });
        this.#tell({ type: "who" });
      },
      stolen: () => {
        this.#say("leads no more");
        leader?.end();
        if (this.#leader !== leader) return;
        this.#leader = null;
        this.#lead(signal, false);
      },
    });
  }

  #want() {
    if (!this.#part?.known) return;
    const runs = [...this.#subscriptions.values()].map(({ run, cursor }) => /** @type {[string, any]} */ ([run, cursor]));
    this.#tell({ type: "want", tab: this.#id, runs });
  }

  /** @param {Word} word */
  #tell(word) {
    this.#part?.channel.postMessage(word);
    this.#hear(word);
  }

  /** @param {Word} word */
  #hear(word) {
    if (word.type === "want") return this.#leader?.want(word.tab, word.runs);
    if (word.type === "wake") return this.#leader?.connected.wake();
    this.#heardAt = Date.now();
    if (word.type === "who") return this.#want();
    if (word.type === "alive" || !this.#subscriptions.has(word.run)) return;
    const given = this.#giving.get(word.run) ?? Promise.resolve();
    const giving = given.then(() => this.#give(word));
    this.#giving.set(word.run, giving);
    giving.then(() => this.#giving.get(word.run) === giving && this.#giving.delete(word.run));
  }

  /** @param {Extract<Word, {run: string}>} word */
  async #give(word) {
    const { run } = word;
    if (word.type === "link") this.#linked(run, word.link);
    else if (word.type === "at") await this.#read(run, word.at);
    else if (word.type === "gap") {
      if (!(await this.#gap(run, word.gap))) await this.#read(run, word.gap.from);
    } else {
      await this.#read(run, word.prev);
      const one = this.#subscriptions.get(run);
      // Folded from further back it holds what this tab has a part of; or the beginning is gone, and this tab came too
      // late to be told.
      const known = one?.cursor ? one.cursor === word.prev : !one || this.#lost.has(one) || word.event.id.endsWith("-1");
      if (!known) await this.#read(run, word.event.id);
      this.#event(run, word.event);
    }
  }

  /** Read from the log until a cursor is reached. @param {string} run @param {string | null} upto */
  async #read(run, upto) {
    /** @type {Subscription | undefined} */
    let one;
    while (upto && (one = this.#subscriptions.get(run)) && one.cursor !== upto && !follows(upto, one.cursor ?? "")) {
      this.#say("reads what it lacks of %s: %s to %s", run, one.cursor, upto);
      const query = new URLSearchParams({ wait: "0", replay: this.#near.replay, ...(one.cursor && { after: one.cursor }) });
      const path = `/runs/${encodeURIComponent(run)}/events?${query}`;
      /** @type {any} */
      const page = await this.#near.call("GET", path).catch((error) => ({ error }));
      if (this.#subscriptions.get(run) !== one) continue;
      // What the gateway refuses it tells the leader too.
      if (page.error instanceof Problem && page.error.status && !page.error.retryable) return;
      let read = !page.error;
      for (const event of page.events ?? []) {
        if (event.type !== "gap") this.#event(run, event);
        else if (!(await this.#gap(run, event))) {
          read = false;
          break;
        }
      }
      if (!read) await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
      else if (page.cursor === one.cursor && !page.events.length) return;
      else if (parseCursor(page.cursor) && this.#subscriptions.get(run) === one) one.cursor = page.cursor;
    }
  }

  /** Whether the run could make of the gap what it must. @param {string} run @param {any} gap @returns {Promise<boolean>} */
  async #gap(run, gap) {
    const one = this.#subscriptions.get(run);
    if (!one) return true;
    one.cursor = null;
    this.#lost.add(one);
    try {
      await one.gap(gap);
      return true;
    } catch {
      return false;
    }
  }

  /** @param {string} run @param {RunEvent} event */
  #event(run, event) {
    const one = this.#subscriptions.get(run);
    if (!one || !follows(one.cursor, event.id)) return;
    const before = one.cursor;
    one.cursor = event.id;
    this.#lost.delete(one);
    one.event(event, before);
    if (isTerminal(event.type)) this.#linked(run, { ...this.#link, status: "disconnected", reason: "terminal" });
  }

  /** @param {string} run @param {Link} link */
  #linked(run, link) {
    const one = this.#subscriptions.get(run);
    if (!link.reason) this.#link = link;
    this.#near.changed();
    if (!one) return;
    if (link.reason) this.leave(one);
    one.link(Object.freeze({ ...link, problem: link.problem ? new Problem(/** @type {any} */ (link.problem)) : null }));
  }
}

/**
 * Hold a lock until the signal.
 * @param {string} name
 * @param {AbortSignal} signal
 * @param {{steal?: boolean, begun: () => void, stolen?: () => void}} told
 */
function hold(name, signal, { steal = false, begun, stolen }) {
  let held = false;
  navigator.locks
    .request(name, steal ? { steal } : { signal }, () => {
      if (signal.aborted) return;
      held = true;
      begun();
      return new Promise((resolve) => signal.addEventListener("abort", resolve));
    })
    .catch(() => {
      if (held && !signal.aborted) stolen?.();
    });
}
