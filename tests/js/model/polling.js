// Long-polls, as the gateway has them (PROTOCOL section 4).

import { HEARTBEAT_MS, RETRY_MS, Served } from "./served.js";

/** @typedef {import("./log.js").Log} Log */

/** @param {Log} log @param {string | null} after @param {string} replay */
export function pageOf(log, after, replay) {
  const { resume, at, gap } = log.join(after);
  const page = log.read(at, replay);
  const last = Number(page.at(-1)?.id.split("-")[1] ?? at);
  return {
    events: gap ? [log.gap(after), ...page] : page,
    cursor: log.cursor(last) ?? "0",
    resume,
    done: log.done && last === log.tail,
    retry_ms: RETRY_MS,
    heartbeat_ms: HEARTBEAT_MS,
  };
}

/** One that waits for the next event. */
export class Poll extends Served {
  #exchange;
  #log;
  #timer;

  /** @param {import("./gateway.js").Gateway} gateway @param {import("./exchange.js").Exchange} exchange @param {Log} log */
  constructor(gateway, exchange, log) {
    super(gateway, exchange.tab, exchange.token);
    this.#exchange = exchange;
    this.#log = log;
    this.#timer = gateway.clock.later(exchange.wait_ms, this.#answer);
    log.watchers.add(this.#answer);
    exchange.signal?.addEventListener("abort", () => gateway.clock.later(gateway.latency(), () => this.end()));
    this.proven(); // a client waits only when it was answered before
  }

  /** @override */
  toString() {
    return `Poll of tab ${this.tab?.id ?? 0} for ${this.#log.id}`;
  }

  #answer = () => {
    this.end();
    this.#exchange.answer(200, pageOf(this.#log, this.#exchange.query.get("after"), this.#exchange.replay));
  };

  /** @override */
  end() {
    super.end();
    this.#timer.cancelled = true;
    this.#log.watchers.delete(this.#answer);
  }

  /** @override @param {number} code */
  close(code) {
    if (code === 4200) this.#exchange.refuse(401, "auth.expired");
    else this.#exchange.fail();
  }
}
