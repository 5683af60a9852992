// A model of Connection: runs are joined, left, joined again or anew, while the way and the logs do what they like.
//
// Laws: who follows a run has every event once and in order, with no hole unless told of a gap; whoever was replaced
// hears nothing; it ends only with the run, or because the run is not there; once the way is calm everybody is at the
// tail, over one connection that carries nothing for nobody; when all have left nothing is open and nothing is asked.

import { Connection } from "../../../clients/js/connection.js";
import { Reader } from "./reader.js";
import { Holder } from "./tokens.js";
import { GATEWAY, World } from "./world.js";

/** @typedef {import("../../../clients/js/connection.js").Link} Link */

const RUNS = ["p", "q", "r"];
/** This one may be missing at first. */
const LATE = "r";

class Follower {
  /** Where it goes on when it is joined. @type {string | null} */
  cursor;
  /** @type {Link["reason"]} */
  over = null;
  reader;
  #model;
  #mayBeMissing;

  /** @param {Model} model @param {string} run @param {string | null} cursor */
  constructor(model, run, cursor) {
    this.#model = model;
    this.run = run;
    this.cursor = cursor;
    this.name = `follower ${model.made++} of ${run}`;
    this.reader = new Reader(model.world, this.name, { after: cursor });
    this.#mayBeMissing = !model.log(run);
  }

  /** @param {any} event */
  event(event) {
    if (this.over) this.#model.world.broken(`${this.name} is given ${event.id} after its end`);
    const latest = this.#model.latest.get(this.run);
    if (latest !== this) this.#model.world.broken(`${this.name} was replaced and is given ${event.id}`);
    this.reader.take(event);
  }

  /** It takes its time, or fails. @param {any} gap */
  async gap(gap) {
    const { world } = this.#model;
    this.reader.gap(gap);
    if (world.unlucky(0.3)) await new Promise((resolve) => setTimeout(resolve, world.below(300)));
    if (world.unlucky(0.1)) throw new Error("the state cannot be read");
  }

  /** @param {Link} link */
  link({ reason }) {
    const { world, joined } = this.#model;
    if (!reason || joined.get(this.run) !== this) return;
    joined.delete(this.run);
    this.over = reason;
    world.say(`${this.name} is over: ${reason}`);
    const log = this.#model.log(this.run);
    if (reason === "terminal") {
      if (!log?.done || !this.reader.isAtTail(log)) world.broken(`${this.name} ends at ${this.reader.at}, before the run`);
    } else if (reason !== "not_found") world.broken(`${this.name} is over: ${reason}`);
    else if (log && !this.#mayBeMissing) world.broken(`${this.name} is told that its run is not there`);
  }
}

class Model {
  made = 0;
  /** @type {Map<string, Follower>} */
  joined = new Map();
  /** The last that was joined to each run. @type {Map<string, Follower>} */
  latest = new Map();
  /** @type {Follower[]} */
  #left = [];
  #connection;

  /** @param {World} world */
  constructor(world) {
    this.world = world;
    const { gateway, transports } = world;
    this.#connection = new Connection({
      base: GATEWAY,
      getToken: new Holder(world).source({ fails: true }),
      transports,
      fetch: gateway.fetch,
      WebSocket: gateway.WebSocket,
      maxRetries: Infinity,
      timeout: 1000,
      debug: (_, ...words) => world.say(...words),
    });
  }

  /** @param {string} run */
  log(run) {
    return this.world.gateway.logs.get(run);
  }

  async story() {
    const { world } = this;
    for (const run of RUNS) if (run !== LATE || world.odds(0.7)) this.#begin(run);
    await world.play([
      [25, () => this.#comeOrGo(world.one(RUNS))],
      [50, () => this.#append(world.one(RUNS), 1 + world.below(4))],
      [10, () => world.gateway.disturb()],
      [3, () => this.#wake()],
      [1, () => this.log(world.one(RUNS))?.append("run.completed")],
      [1, () => this.#lose(world.one(RUNS))],
      [1, () => this.#trim(world.one(RUNS))],
      [1, () => this.log(LATE) ?? this.#begin(LATE)],
    ]);
    await world.eventually(() => this.#lacking());
    for (const one of [...this.joined.values()]) this.#leave(one);
    await world.eventually(() => this.#connection.connections.length > 0 && "a connection is kept for nobody");
    await world.nothingLeft();
  }

  /** @param {string} run */
  #begin(run) {
    this.world.say(`${run} begins`);
    this.world.gateway.begin(run);
    this.#append(run, this.world.below(6));
  }

  /** @param {string} run @param {number} count */
  #append(run, count) {
    for (; count > 0; count--) this.log(run)?.append(this.world.odds(0.15) ? "x.n" : "delta");
  }

  /** @param {string} run */
  #lose(run) {
    this.world.say(`the log of ${run} is lost`);
    this.log(run)?.lose();
    this.#append(run, 1);
  }

  /** @param {string} run */
  #trim(run) {
    const log = this.log(run);
    log?.trim(this.world.below(log.tail - log.floor));
    this.world.say(`${run} is held from ${log?.floor} on`);
  }

  #wake() {
    this.world.say("is woken");
    this.#connection.wake();
  }

  /** @param {string} run */
  #comeOrGo(run) {
    const { world } = this;
    const one = this.joined.get(run);
    const before = this.#left.filter((other) => other.run === run && !other.over).at(-1);
    if (!one) return this.#join(before && world.odds(0.6) ? before : this.#another(run));
    if (world.odds(0.2)) return this.#join(this.#another(run));
    this.#leave(one);
    if (world.odds(0.3)) this.#join(world.odds(0.5) ? one : new Follower(this, run, null));
  }

  /** One that has nothing, or that has something from elsewhere. @param {string} run */
  #another(run) {
    const { world } = this;
    const log = this.log(run);
    const held = log && log.tail > log.floor && world.odds(0.3);
    return new Follower(this, run, held ? log.cursor(log.floor + 1 + world.below(log.tail - log.floor)) : null);
  }

  /** @param {Follower} one */
  #join(one) {
    this.world.say(`${one.name} joins from ${one.cursor}`);
    this.joined.set(one.run, one);
    this.latest.set(one.run, one);
    this.#connection.join(one);
  }

  /** @param {Follower} one */
  #leave(one) {
    this.world.say(`${one.name} leaves`);
    this.joined.delete(one.run);
    this.#left.push(one);
    this.#connection.leave(one);
  }

  #lacking() {
    const { open, followed } = this.world.gateway;
    for (const { run, name, reader } of this.joined.values()) {
      const log = this.log(run);
      if (!log) return `${name} is not told that its run is not there`;
      if (!reader.isAtTail(log)) return `${name} is stuck at ${reader.at} of ${log.tail}`;
    }
    const { link } = this.#connection;
    if (this.joined.size && link.status !== "connected") return `those who follow are told: ${link.status}`;
    if (!this.joined.size && open.size) return "a connection is open for nobody";
    if (open.size > 1) return `${open.size} connections are open`;
    const vain = [...followed].find((run) => !this.joined.has(run));
    return vain && `${vain} is followed for nobody`;
  }
}

/** @param {number} seed @param {import("./world.js").Options} options */
export function connectionModel(seed, options) {
  const world = new World(seed, options);
  return world.run(() => new Model(world).story());
}
