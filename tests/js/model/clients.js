// A model of Clients, one alone or several as a browser's tabs: runs are watched in every way, left and closed, while
// the way and the logs do what they like, and tabs are killed, hang and come.
//
// Laws: who watches a run sees every event once and in order, with no hole unless told of a gap; it ends when the run
// ends, or when it is told to, and only then; once the way is calm everybody is at the tail, with the log's own words,
// over one connection for all tabs that carries nothing for nobody; when all runs have ended, or nobody watches, nothing
// is open, held, waited for or asked.

import { Client } from "../../../clients/js/index.js";
import { tabs } from "../../../clients/js/tabs.js";
import { Browser } from "./browser.js";
import { inTab } from "./clock.js";
import { Holder } from "./tokens.js";
import { Iteration, Listener, Subscriber, Wait } from "./watchers.js";
import { GATEWAY, World } from "./world.js";

/** @typedef {import("../../../clients/js/run.js").Run} Run */
/** @typedef {import("./watchers.js").Watcher} Watcher */

// It is imported when it is needed, which would take real time.
await import("../../../clients/js/connection.js");

const RUNS = ["p", "q"];
const MOST_WATCHERS = 8;
const PATIENCE_MS = 4_000;
const HUNG_MS = 8_000;
const ODDS = { refuses: 0.1, hangs: 0.02 };

/** A client in a tab of its own, and who watches there. */
class Page {
  dead = false;
  hungUntil = 0;
  /** @type {Set<Watcher>} */
  watchers = new Set();
  /** They are held, so they stay what they are. @type {Map<string, Run>} */
  runs = new Map();
  client;

  /** @param {World} world @param {number} id @param {boolean} shared */
  constructor(world, id, shared) {
    this.id = id;
    const { gateway, transports } = world;
    this.client = inTab(this, () => new Client({
      url: GATEWAY,
      replay: "folded",
      getToken: new Holder(world).source({ fails: false }),
      transports,
      fetch: gateway.fetch,
      WebSocket: gateway.WebSocket,
      maxRetries: Infinity,
      timeout: 1000,
      ...(shared && { share: tabs("shared", { patience: PATIENCE_MS }) }),
    }));
    for (const run of RUNS) this.runs.set(run, this.client.run(run));
  }

  /** From a tab that hangs for good the others hear no end. @param {string} id */
  wants(id) {
    return isFrozen(this) ? [...this.watchers].some(({ run }) => run.id === id) : this.watching(id).length > 0;
  }

  /** @param {string} id @returns {Watcher[]} */
  watching(id) {
    return [...this.watchers].filter(({ run, stopped, done }) => run.id === id && !stopped && !done);
  }
}

class Model {
  #world;
  #browser;
  #shared;
  #made = 0;
  /** @type {Page[]} */
  #pages = [];

  /** @param {World} world @param {number} count of tabs; 0 is a client that shares nothing */
  constructor(world, count) {
    this.#world = world;
    this.#browser = new Browser(world);
    this.#shared = count > 0;
    for (let page = 0; page < Math.max(1, count); page++) this.#open();
  }

  async story() {
    const world = this.#world;
    for (const run of RUNS) {
      world.gateway.begin(run);
      this.#append(run, world.below(6));
    }
    await world.play([
      [22, () => this.#watch(world.one(this.#pages), world.one(RUNS))],
      [15, () => this.#stop(world.one(this.#pages))],
      [2, () => this.#close(world.one(this.#pages), world.one(RUNS))],
      [42, () => this.#append(world.one(RUNS), 1 + world.below(4))],
      [10, () => world.gateway.disturb()],
      [2, () => this.#reconnect(world.one(this.#pages))],
      [1, () => this.#log(world.one(RUNS)).append("run.completed")],
      [1, () => this.#lose(world.one(RUNS))],
      [1, () => this.#trim(world.one(RUNS))],
      ...(this.#shared ? this.#troubles : []),
    ]);
    await world.eventually(() => this.#lacking());
    if (world.odds(0.3)) this.#closeAll();
    else for (const run of RUNS) this.#log(run).append("run.completed");
    await world.eventually(() => this.#all.map((one) => one.lacking()).find(Boolean));
    this.#pages.filter(isFrozen).forEach((page) => this.#kill(page));
    for (const page of this.#pages) for (const one of page.watchers) if (!one.stopped) inTab(page, () => one.stop());
    await world.clock.advance(HUNG_MS); // whoever hangs has things to end
    await world.eventually(() => this.#kept);
    await world.nothingLeft();
  }

  /** What befalls tabs. @returns {import("./world.js").Acts} */
  get #troubles() {
    return [
      [2.5, () => this.#kill(this.#world.one(this.#pages))],
      [2, () => this.#hang(this.#world.one(this.#pages), this.#world.below(HUNG_MS))],
      [0.5, () => this.#pages.some(isFrozen) || this.#hang(this.#world.one(this.#pages), Infinity)],
    ];
  }

  /** Those that can be asked. */
  get #all() {
    return this.#pages.flatMap((page) => (isFrozen(page) ? [] : [...page.watchers]));
  }

  /** What is still there though nobody watches. */
  get #kept() {
    const page = this.#pages.find(({ client }) => client.connections.length);
    return (page && `tab ${page.id} has a connection for nobody`) ?? this.#browser.left[0];
  }

  /** @param {string} run */
  #log(run) {
    return /** @type {import("./log.js").Log} */ (this.#world.gateway.logs.get(run));
  }

  #open() {
    this.#pages.push(new Page(this.#world, this.#made++, this.#shared));
  }

  /** @param {string} run @param {number} count */
  #append(run, count) {
    for (; count > 0; count--) this.#log(run).append(this.#world.odds(0.15) ? "x.n" : "delta");
  }

  /** @param {string} run */
  #lose(run) {
    this.#world.say(`the log of ${run} is lost`);
    this.#log(run).lose();
    this.#append(run, 1);
  }

  /** @param {string} run */
  #trim(run) {
    const log = this.#log(run);
    log.trim(this.#world.below(log.tail - log.floor));
    this.#world.say(`${run} is held from ${log.floor + 1} on`);
  }

  /** @param {Page} page @param {string} id */
  #watch(page, id) {
    if (this.#all.filter(({ done, stopped }) => !done && !stopped).length >= MOST_WATCHERS) return;
    const [world, log] = [this.#world, this.#log(id)];
    const run = /** @type {Run} */ (page.runs.get(id));
    const place = { world, run, log };
    const named = (/** @type {string} */ what) => ({ ...place, name: `${what} ${this.#made++} of ${id} in tab ${page.id}` });
    const held = log.tail > log.floor && world.odds(0.3);
    const after = held ? log.cursor(log.floor + 1 + world.below(log.tail - log.floor)) : null;
    /** @type {(() => Watcher)[]} */
    const kinds = [
      () => new Iteration(named("iteration"), after),
      () => new Iteration(named("iteration"), after),
      () => new Listener(named("listener")),
      () => new Subscriber(named("subscriber")),
      () => new Wait(named("wait")),
    ];
    page.watchers.add(inTab(page, world.one(kinds)));
  }

  /** @param {Page} page */
  #stop(page) {
    const watching = RUNS.flatMap((run) => page.watching(run));
    if (!watching.length) return;
    const one = this.#world.one(watching);
    inTab(page, () => one.stop());
  }

  /** @param {Page} page @param {string} run */
  #close(page, run) {
    this.#world.say(`tab ${page.id} closes ${run}`);
    inTab(page, () => page.runs.get(run)?.close());
    for (const one of page.watching(run)) one.closed();
  }

  #closeAll() {
    for (const page of this.#pages) {
      this.#world.say(`tab ${page.id} closes all`);
      inTab(page, () => page.client.closeAll());
      for (const run of RUNS) for (const one of page.watching(run)) one.closed();
    }
  }

  /** @param {Page} page */
  #reconnect(page) {
    this.#world.say(`tab ${page.id} connects anew`);
    inTab(page, () => page.client.reconnect());
  }

  /** Another one comes instead. @param {Page} page */
  #kill(page) {
    this.#world.say(`tab ${page.id} is killed`);
    this.#browser.kill(page);
    this.#pages.splice(this.#pages.indexOf(page), 1);
    this.#open();
  }

  /** @param {Page} page @param {number} ms */
  #hang(page, ms) {
    this.#world.say(`tab ${page.id} hangs for ${ms} ms`);
    this.#browser.hang(page, ms);
  }

  #lacking() {
    const lack = this.#all.map((one) => one.lacking()).find(Boolean);
    if (lack) return lack;
    const served = [...this.#world.gateway.open].filter(({ tab }) => !tab || !isFrozen(tab));
    if (served.length > 1) return `${served.length} connections are open: ${served}`;
    const vain = served.flatMap(({ feeds }) => [...feeds.keys()]).find((run) => !this.#pages.some((page) => page.wants(run)));
    return vain && `${vain} is followed for nobody`;
  }
}

/** It hangs for good; the others must do without it. @param {{hungUntil: number}} tab */
function isFrozen({ hungUntil }) {
  return hungUntil === Infinity;
}

/** @param {number} tabs */
const modelOf = (tabs) => (/** @type {number} */ seed, /** @type {import("./world.js").Options} */ options) => {
  const world = new World(seed, options, ODDS);
  return world.run(() => new Model(world, tabs).story());
};

export const clientModel = modelOf(0);
export const tabsModel = modelOf(3);
