// The connection, had when it is first needed: what only starts, lists and cancels runs never loads it, and neither does
// a tab that another one serves.
//
// Rule 1: whoever joins before it is there joins as soon as it is.

/** @typedef {import("./connection.js").Connection} Connection */
/** @typedef {import("./connection.js").Link} Link */
/** @typedef {import("./connection.js").Subscription} Subscription */

/** How a run is followed when it is not. @type {Link} */
export const AWAY = Object.freeze({
  status: "disconnected",
  transport: "sse",
  retry_in_ms: null,
  reason: null,
  problem: null,
});
/** @type {Link} */
export const CONNECTING = Object.freeze({ ...AWAY, status: "connecting" });

/** @implements {Pick<Connection, "connections" | "join" | "leave" | "command" | "wake">} */
export class Late {
  #options;
  /** @type {Connection | null} */
  #connection = null;
  /** @type {Set<Subscription>} */
  #waiting = new Set();

  /** @param {import("./connection.js").ConnectionOptions} options */
  constructor(options) {
    this.#options = options;
  }

  get connections() {
    return this.#connection?.connections ?? [];
  }

  /** @param {Subscription} subscription */
  join(subscription) {
    if (this.#connection) return this.#connection.join(subscription);
    const loading = this.#waiting.size > 0;
    this.#waiting.add(subscription);
    subscription.link(CONNECTING);
    if (!loading) this.#load();
  }

  /** @param {Subscription} subscription */
  leave(subscription) {
    this.#waiting.delete(subscription);
    this.#connection?.leave(subscription);
  }

  /** @type {import("./transports.js").Command} */
  command = async (type, fields) => this.#connection?.command(type, fields) ?? null;

  wake() {
    this.#connection?.wake();
  }

  async #load() {
    try {
      const { Connection } = await import("./connection.js");
      this.#connection ??= new Connection(this.#options);
      for (const one of this.#waiting) this.#connection.join(one);
    } catch {
      for (const one of this.#waiting) one.link(Object.freeze({ ...AWAY, status: "error", reason: "exhausted" }));
    }
    this.#waiting.clear();
  }
}
