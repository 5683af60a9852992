// One HTTP request on its way, and its answer: each takes its time, and either may be given up meanwhile.

import { currentTab } from "./clock.js";

/** @typedef {import("./gateway.js").Gateway} Gateway */
/** @typedef {{method?: string, headers?: Record<string, string>, signal?: AbortSignal | null}} Sent */

export class Exchange {
  tab = currentTab();
  over = false;
  /** @type {Promise<Response>} */
  promise;
  #gateway;
  /** @type {(response: Response) => void} */
  #resolve = () => {};
  /** @type {(reason: unknown) => void} */
  #reject = () => {};
  #giveUp = () => this.#settle(() => this.#reject(this.signal?.reason));

  /** @param {Gateway} gateway @param {string} url @param {Sent} sent */
  constructor(gateway, url, { method = "GET", headers = {}, signal }) {
    this.#gateway = gateway;
    const { pathname, searchParams } = new URL(url);
    this.path = pathname;
    this.query = searchParams;
    this.method = method;
    this.streamed = headers["Accept"] === "text/event-stream";
    this.token = gateway.read(headers["Authorization"]?.replace("Bearer ", "") ?? "");
    this.signal = signal;
    this.wire = gateway.clock.wire(this.tab);
    this.promise = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    signal?.addEventListener("abort", this.#giveUp);
    if (signal?.aborted) this.#giveUp();
  }

  toString() {
    return `${this.method} ${this.path}?${this.query}${this.streamed ? " as a stream" : ""}`;
  }

  get replay() {
    return this.query.get("replay") ?? "folded";
  }

  /** How long a long-poll may wait. */
  get wait_ms() {
    return 1000 * Number(this.query.get("wait") ?? 0);
  }

  /** @param {() => Response} response made when it has come: whoever gave up leaves none behind */
  respond(response) {
    this.wire(this.#gateway.latency(), () => this.#settle(() => this.#resolve(response())));
  }

  /** @param {number} status @param {object | null} body */
  answer(status, body) {
    const headers = { "Content-Type": "application/json" };
    this.respond(() => new Response(body && JSON.stringify(body), { status, headers }));
  }

  /** @param {number} status @param {string} code @param {object} [more] */
  refuse(status, code, more) {
    this.answer(status, { code, title: code, retryable: status === 503, ...more });
  }

  /** There is no answer. */
  fail() {
    this.wire(this.#gateway.latency(), () => this.#settle(() => this.#reject(new TypeError("network"))));
  }

  /** @param {() => void} settle */
  #settle(settle) {
    if (this.over) return;
    this.over = true;
    this.signal?.removeEventListener("abort", this.#giveUp);
    settle();
  }
}
