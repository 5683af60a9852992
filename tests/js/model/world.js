// What every model has: time, chance, a gateway, and the laws that were broken.
//
// Rule 1: one seeded generator decides everything, so a seed is the same story each time.
// Rule 2: laws of safety hold always: whoever sees one broken says so at once (`broken`). Laws of progress hold once
// the way is calm, within CALM_MS (`eventually`).

import { inspect } from "node:util";
import { seeded } from "../seeded.js";
import { Clock } from "./clock.js";
import { Gateway } from "./gateway.js";

/** @typedef {import("../../../clients/js/policy.js").Transport} Transport */
/** @typedef {{trace?: boolean, transports?: readonly Transport[]}} Options */
/** @typedef {[weight: number, act: () => void][]} Acts */

export const GATEWAY = "http://gateway";
const STEPS = 60;
/** More than a client's longest delay, and than it takes a long-poll for dead. */
const CALM_MS = 90_000;
const SILENCE_MS = 100_000;
/** Enough for what is under way, and less than any watch over a connection. */
const ENDING_MS = 800;
/** What a request has that only reads. */
const READING_MS = 30_000;
/** @type {readonly (readonly Transport[])[]} */
const WAYS = [["sse"], ["websocket"], ["poll"], ["sse", "websocket", "poll"]];

export class World {
  clock = new Clock();
  /** @type {string[]} */
  faults = [];
  gateway;
  transports;
  random;
  #trace;

  /** @param {number} seed @param {Options} options @param {import("./gateway.js").Odds} [odds] */
  constructor(seed, { trace = false, transports }, odds) {
    this.random = seeded(seed);
    this.#trace = trace;
    this.gateway = new Gateway(this, odds);
    this.transports = transports ?? this.one(WAYS);
  }

  /** @param {number} probability */
  odds(probability) {
    return this.random() < probability;
  }

  /** A whole number below. @param {number} most */
  below(most) {
    return Math.floor(this.random() * most);
  }

  /** @template T @param {Iterable<T>} things @returns {T} one of at least one */
  one(things) {
    const all = [...things];
    return /** @type {T} */ (all[this.below(all.length)]);
  }

  /** What the way can do wrong, before it is calm. @param {number} probability */
  unlucky(probability) {
    return !this.gateway.calm && this.odds(probability);
  }

  /** @param {unknown[]} words */
  say(...words) {
    if (!this.#trace) return;
    const told = words.map((word) => (typeof word === "string" ? word : inspect(word, { breakLength: Infinity })));
    console.log(this.clock.passed.toFixed(1).padStart(9), ...told);
  }

  /** @param {string} law which one, and how it was broken */
  broken(law) {
    this.say("BROKEN", law);
    this.faults.push(`after ${this.clock.passed.toFixed(0)} ms (${this.transports}): ${law}`);
  }

  /** One thing after the other happens, sooner or later. @param {Acts} acts */
  async play(acts) {
    const all = acts.reduce((sum, [weight]) => sum + weight, 0);
    for (let step = 0; step < STEPS && !this.faults.length; step++) {
      let at = this.random() * all;
      acts.find(([weight]) => (at -= weight) < 0)?.[1]();
      await this.clock.advance(this.random() * (this.odds(0.5) ? 30 : 250));
    }
    this.say("calm");
    this.gateway.calmDown();
  }

  /** @param {() => string | null | undefined | false} lacking what is not yet as it must be */
  async eventually(lacking) {
    const end = this.clock.now + CALM_MS;
    let lack = lacking();
    while (lack && this.clock.now < end && !this.faults.length) {
      await this.clock.advance(500);
      lack = lacking();
    }
    if (lack && !this.faults.length) this.broken(lack);
  }

  /** Nobody wants anything any more. */
  async nothingLeft() {
    const { clock, gateway } = this;
    await this.eventually(() => gateway.open.size > 0 && `connections are left open: ${[...gateway.open]}`);
    await clock.advance(ENDING_MS);
    if (clock.left(READING_MS)) this.broken(`${clock.left(READING_MS)} timers are left`);
    await clock.advance(READING_MS);
    if (clock.left()) this.broken("what is read is waited for without an end");
    const { requests } = gateway;
    await clock.advance(SILENCE_MS);
    if (gateway.requests !== requests) this.broken("requests are made for nobody");
  }

  /** The whole story; what was wrong in it. @param {() => Promise<void>} story */
  async run(story) {
    const unheard = (/** @type {unknown} */ error) => this.broken(`an error that nobody heard: ${inspect(error)}`);
    process.on("unhandledRejection", unheard);
    process.on("uncaughtException", unheard);
    try {
      await this.clock.rule(this.random, story);
    } catch (error) {
      this.broken(inspect(error));
    } finally {
      process.off("unhandledRejection", unheard);
      process.off("uncaughtException", unheard);
    }
    return this.faults[0] ?? null;
  }
}
