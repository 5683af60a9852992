// The tabs of a browser: Web Locks and BroadcastChannel between them, each word and each lock on its way for a while.
//
// Modelled: locks that are waited for, given up, stolen and freed by a tab's death; channels in the order of each
// sender; tabs that are killed, and that hang and then catch up.

import { currentTab } from "./clock.js";

/** @typedef {import("./clock.js").Tab} Tab */
/** @typedef {import("./world.js").World} World */
/** @typedef {{signal?: AbortSignal, steal?: boolean}} LockOptions */
/**
 * @typedef {object} Request one for a lock
 * @property {string} name
 * @property {Tab | null} tab
 * @property {() => unknown} callback
 * @property {(value: unknown) => void} resolve
 * @property {(reason: unknown) => void} reject
 * @property {import("./clock.js").Wire} wire what the tab is told of it, in order
 * @property {"asked" | "waits" | "held" | "over"} state
 */

const LATENCY_MS = 6;

export class Browser {
  locks;
  /** @type {Set<Channel>} */
  channels = new Set();
  #world;

  /** @param {World} world */
  constructor(world) {
    this.#world = world;
    this.locks = new Locks(world);
    const browser = this;
    class Bound extends Channel {
      /** @param {string} name */
      constructor(name) {
        super(name, world, browser.channels);
      }
    }
    const globals = { navigator: { locks: this.locks }, BroadcastChannel: Bound, document: { hidden: false } };
    for (const [name, value] of Object.entries(globals)) {
      Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });
    }
  }

  /** The tab is no more, and nothing that it had. @param {Tab} tab */
  kill(tab) {
    tab.dead = true;
    this.locks.free(tab);
    for (const channel of this.channels) if (channel.tab === tab) channel.close();
    for (const served of [...this.#world.gateway.open]) if (served.tab === tab) served.end();
  }

  /** @param {Tab} tab @param {number} ms */
  hang(tab, ms) {
    tab.hungUntil = Math.max(tab.hungUntil, this.#world.clock.now + ms);
  }

  /** What is left when nobody follows anything. */
  get left() {
    const locks = [...this.locks.held].map((name) => `the lock ${name} is held`);
    return [...locks, ...[...this.channels].map(({ name }) => `the channel ${name} is open`)];
  }
}

/** @param {World} world */
function latency(world) {
  return world.random() * LATENCY_MS;
}

class Channel {
  tab = currentTab();
  closed = false;
  onmessage = (/** @type {{data: unknown}} */ _message) => {};
  /** @type {Map<Channel, import("./clock.js").Wire>} */
  #wires = new Map();
  #world;
  #all;

  /** @param {string} name @param {World} world @param {Set<Channel>} all */
  constructor(name, world, all) {
    this.name = name;
    this.#world = world;
    this.#all = all;
    all.add(this);
  }

  /** @param {unknown} word */
  postMessage(word) {
    const data = structuredClone(word);
    for (const other of this.#all) {
      if (other === this || other.name !== this.name) continue;
      const wire = this.#wires.get(other) ?? this.#world.clock.wire(other.tab);
      this.#wires.set(other, wire);
      wire(latency(this.#world), () => other.closed || other.onmessage({ data }));
    }
  }

  close() {
    this.closed = true;
    this.#all.delete(this);
  }
}

class Locks {
  /** @type {Map<string, Request>} */
  #held = new Map();
  /** @type {Map<string, Request[]>} */
  #queues = new Map();
  #world;
  #wire;

  /** @param {World} world */
  constructor(world) {
    this.#world = world;
    this.#wire = world.clock.wire();
  }

  get held() {
    return this.#held.keys();
  }

  /** @param {string} name @param {LockOptions} options @param {() => unknown} callback */
  request(name, { signal, steal = false }, callback) {
    return new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason);
      const tab = currentTab();
      const wire = this.#world.clock.wire(tab);
      /** @type {Request} */
      const request = { name, tab, wire, callback, resolve, reject, state: "asked" };
      signal?.addEventListener("abort", () => this.#giveUp(request, signal.reason));
      this.#wire(latency(this.#world), () => {
        if (request.tab?.dead || request.state === "over") return;
        if (steal) this.#steal(request);
        else this.#queue(request);
      });
    });
  }

  /** @param {Tab} tab */
  free(tab) {
    for (const [name, queue] of this.#queues) this.#queues.set(name, queue.filter((request) => request.tab !== tab));
    for (const request of [...this.#held.values()]) if (request.tab === tab) this.#release(request);
  }

  /** @param {Request} request */
  #queue(request) {
    request.state = "waits";
    this.#queues.set(request.name, [...(this.#queues.get(request.name) ?? []), request]);
    this.#next(request.name);
  }

  /** @param {Request} request @param {unknown} reason */
  #giveUp(request, reason) {
    if (request.state === "held" || request.state === "over") return;
    request.state = "over";
    request.reject(reason);
  }

  /** @param {Request} request */
  #steal(request) {
    const robbed = this.#held.get(request.name);
    if (robbed) {
      robbed.state = "over";
      robbed.wire(latency(this.#world), () => robbed.reject(new Error("stolen")));
    }
    this.#grant(request);
  }

  /** @param {string} name */
  #next(name) {
    const queue = this.#queues.get(name) ?? [];
    while (!this.#held.has(name) && queue.length) {
      const request = /** @type {Request} */ (queue.shift());
      if (request.state === "waits") this.#grant(request);
    }
  }

  /** Whoever is granted it hears of it later. @param {Request} request */
  #grant(request) {
    request.state = "held";
    this.#held.set(request.name, request);
    const released = () => this.#world.clock.later(latency(this.#world), () => this.#release(request), request.tab);
    const run = async () => {
      try {
        request.resolve(await request.callback());
      } catch (error) {
        request.reject(error);
      }
      released();
    };
    request.wire(latency(this.#world), () => void run());
  }

  /** @param {Request} request */
  #release(request) {
    if (this.#held.get(request.name) !== request) return;
    this.#held.delete(request.name);
    this.#next(request.name);
  }
}
