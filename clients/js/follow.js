// Follow one run to its end by callbacks: a Connection for it alone.

import { Connection as Shared } from "./connection.js";

/**
 * `after`: the cursor to join from (null: the start). `onGap` is called when the history after the cursor is gone:
 * throw the run's state away, and give the cursor of the state that takes its place (null: an empty one).
 * @typedef {object} Options
 * @property {string} run
 * @property {import("./api.js").GetToken} getToken
 * @property {(event: import("./state.js").RunEvent) => void} onEvent
 * @property {() => Promise<string | null>} [onGap]
 * @property {(link: import("./connection.js").Link) => void} [onConnection]
 * @property {string | null} [after]
 * @property {"folded" | "full" | "none"} [replay]
 * @property {readonly import("./policy.js").Transport[]} [transports] in the order of preference
 * @property {import("./connection.js").Memory} [memory]
 * @property {number} [max_retries]
 * @property {string} [base] the gateway's address; "" is the page's own
 * @property {AbortSignal} [signal]
 * @property {typeof globalThis.fetch} [fetch]
 * @property {typeof globalThis.WebSocket} [WebSocket]
 */

/** @typedef {import("./connection.js").Link} Connection */
/** @typedef {import("./connection.js").Memory} Memory */

/**
 * `closed` resolves to the reason when following is over, and rejects only when a callback threw. `command` sends over the WebSocket in use and resolves to
 * the reply, or to null when there is none to send over. `wake` cuts a waiting time short (the network is back).
 * @typedef {object} Following
 * @property {Promise<import("./policy.js").Reason>} closed
 * @property {import("./transports.js").Command} command
 * @property {() => void} wake
 */

/** @param {Options} options @returns {Following} */
export function follow({ run, after = null, onEvent, onGap, onConnection, max_retries, base = "", signal, ...options }) {
  const connection = new Shared({ ...options, base, maxRetries: max_retries });
  /** @type {Promise<import("./policy.js").Reason>} */
  const closed = new Promise((resolve, reject) => {
    let over = false;
    /** @type {import("./connection.js").Subscription} */
    const subscription = {
      run,
      cursor: after,
      event(event) {
        if (signal?.aborted) return;
        try {
          onEvent(event);
        } catch (error) {
          reject(error);
          leave();
        }
      },
      async gap() {
        subscription.cursor = (await onGap?.()) ?? null;
      },
      link(link) {
        if (over) return;
        over = link.reason !== null;
        onConnection?.(link);
        if (link.reason) resolve(link.reason);
      },
    };
    const leave = () => {
      connection.leave(subscription);
      subscription.link(Object.freeze({ ...connection.link, status: "disconnected", reason: "aborted" }));
    };
    if (signal?.aborted) return leave();
    signal?.addEventListener("abort", leave);
    connection.join(subscription);
  });
  return { closed, command: connection.command, wake: () => connection.wake() };
}
