// Whoever watches a run of a Client: an iteration, a listener, a subscriber, a wait for the end; and what each must see.

import { inspect } from "node:util";
import { wordsOf } from "./log.js";
import { Reader } from "./reader.js";

/** @typedef {import("../../../clients/js/run.js").Run} Run */
/** @typedef {import("./log.js").Log} Log */
/** @typedef {import("./world.js").World} World */
/** `name` is told in the trace. @typedef {{world: World, name: string, run: Run, log: Log}} Place */

/** What all have in common: each begins when it is made. */
export class Watcher {
  /** It was told to stop, and hears nothing more. */
  stopped = false;
  /** It has ended by itself. */
  done = false;

  /** @param {Place} place */
  constructor({ world, name, run, log }) {
    this.world = world;
    this.name = name;
    this.run = run;
    this.log = log;
    world.say(`${name} begins`);
  }

  /** By whoever made it. */
  stop() {
    this.world.say(`${this.name} is stopped`);
    this.stopped = true;
  }

  /** The run was closed, which it was told of. */
  closed() {
    this.stopped = true;
  }

  /** What it has not seen yet, when everybody should have seen everything. @returns {string | false} */
  lacking() {
    return false;
  }

  /** @param {string} what */
  broken(what) {
    this.world.broken(`${this.name} ${what}`);
  }

  /** @param {Reader} reader @param {any} event */
  heard(reader, event) {
    if (this.stopped) this.broken(`was stopped and is given ${event.id ?? event.type}`);
    if (event.type === "gap") reader.gap(event);
    else reader.take(event);
  }
}

export class Iteration extends Watcher {
  #stopping = new AbortController();
  #terminal = false;
  #slow;
  #reader;

  /** @param {Place} place @param {string | null} after */
  constructor(place, after) {
    super(place);
    this.#slow = this.world.odds(0.3);
    this.#reader = new Reader(this.world, `${this.name} after ${after}`, { after });
    this.#read(after);
  }

  /** @override */
  stop() {
    super.stop();
    this.#stopping.abort();
  }

  /** Who is ended by the run's close may be busy with one event, and end a little later. @override */
  closed() {
    this.ending = true;
  }

  /** @override */
  lacking() {
    if (this.done) return false;
    if (this.stopped || this.ending) return `${this.name} was ended and goes on`;
    if (this.log.done) return `${this.name} has not ended with its run`;
    return !this.#reader.isAtTail(this.log) && `${this.name} is stuck at ${this.#reader.at} of ${this.log.tail}`;
  }

  /** @param {string | null} after */
  async #read(after) {
    try {
      for await (const event of this.run.events({ after, signal: this.#stopping.signal })) {
        this.heard(this.#reader, event);
        this.#terminal = event.type === "run.completed";
        if (this.#slow) await new Promise((resolve) => setTimeout(resolve, this.world.below(400)));
      }
      const over = this.#terminal || (this.log.done && this.#reader.isAtTail(this.log));
      if (!over && !this.stopped && !this.ending) this.broken(`ends at ${this.#reader.at} of ${this.log.tail}`);
    } catch (error) {
      this.broken(`throws ${inspect(error)}`);
    }
    this.world.say(`${this.name} ends`);
    this.done = true;
  }
}

export class Listener extends Watcher {
  #reader;
  #end;

  /** @param {Place} place */
  constructor(place) {
    super(place);
    this.#reader = new Reader(this.world, this.name, { anywhere: true });
    this.#end = this.run.on("*", (event) => this.heard(this.#reader, event));
  }

  /** @override */
  stop() {
    super.stop();
    this.#end();
  }
}

/** It sees states alone. */
export class Subscriber extends Watcher {
  #end;

  /** @param {Place} place */
  constructor(place) {
    super(place);
    this.#end = this.run.subscribe(() => {
      if (this.stopped) this.broken("was stopped and is called");
    });
  }

  /** @override */
  stop() {
    super.stop();
    this.#end();
  }

  /** @override */
  lacking() {
    const { state, connection } = this.run;
    if (this.stopped) return false;
    const tail = this.log.cursor(this.log.tail);
    if (state.tail !== tail) return `${this.name} has the state at ${state.tail} of ${tail}`;
    if (wordsOf(state) !== this.log.text) return `${this.name} has the words ${wordsOf(state)}`;
    if (this.log.done !== (state.status === "completed")) return `${this.name} has the state ${state.status}`;
    return !this.log.done && connection.status !== "connected" && `${this.name} is told: ${connection.status}`;
  }
}

export class Wait extends Watcher {
  #stopping = new AbortController();

  /** @param {Place} place */
  constructor(place) {
    super(place);
    this.#wait();
  }

  /** @override */
  stop() {
    super.stop();
    this.#stopping.abort();
  }

  /** @override */
  lacking() {
    if (this.done) return false;
    if (this.stopped) return `${this.name} was ended and goes on`;
    return this.log.done && `${this.name} has not ended with its run`;
  }

  async #wait() {
    try {
      const state = await this.run.finished({ signal: this.#stopping.signal });
      if (state.status !== "completed" || !this.log.done) this.broken(`ends with a run that is ${state.status}`);
      if (wordsOf(state) !== this.log.text) this.broken(`ends with the words ${wordsOf(state)}`);
    } catch (error) {
      if (!this.stopped) this.broken(`throws ${inspect(error)}`);
    }
    this.world.say(`${this.name} ends`);
    this.done = true;
  }
}
