// The connection, which nothing waits for until it is needed: what only starts, lists and cancels runs works without it,
// and a tab that another one serves never loads it.
//
// Rule 1: whoever joins before it is there joins as soon as it is.
// Rule 2: it is fetched as soon as it may be needed, not when it is: by then other tabs may hold all that the browser
// opens to the host, and no way to fall back would ever come.

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
    import("./connection.js").catch(() => {}); // tried again when it is needed
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
