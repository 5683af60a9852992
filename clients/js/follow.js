// Follow one run to its end: the policy's hands and feet (PROTOCOL sections 3 and 9).
//
// Rule 1: the policy decides, this file does: opens, waits, keeps the timers and the cursor. It holds no run state.
// Rule 2: each event is given once and in order, whatever broke in between; after a gap it starts over, and says so.
// Rule 3: at most one connection is open; it ends when the caller's signal says so.

import { follows, parseCursor } from "./cursor.js";
import { decide, initial, OPEN_TIMEOUT_MS, silenceMs } from "./policy.js";
import { isTerminal } from "./state.js";
import { OPEN } from "./transports.js";

/** @typedef {import("./policy.js").Outcome} Outcome */
/** @typedef {import("./policy.js").Action} Action */
/** @typedef {import("./policy.js").Transport} Transport */
/** @typedef {import("./transports.js").Frame} Frame */

/**
 * `retry_in_ms` while retrying; `reason` once it is over.
 * @typedef {{status: import("./policy.js").Status, transport: Transport, retry_in_ms: number | null,
 *   reason: import("./policy.js").Reason | null}} Connection
 */

/**
 * What worked, for the next time; the caller keeps it.
 * @typedef {{worked?: Transport | null, fell_back_at?: number | null}} Memory
 */

/**
 * `after`: the cursor to join from (null: the start). `onGap` is called when the history after the cursor is gone:
 * throw the run's state away, and give the cursor of the state that takes its place (null: an empty one).
 * @typedef {object} Options
 * @property {string} run
 * @property {import("./api.js").GetToken} getToken
 * @property {(event: import("./state.js").RunEvent) => void} onEvent
 * @property {() => Promise<string | null>} [onGap]
 * @property {(connection: Connection) => void} [onConnection]
 * @property {string | null} [after]
 * @property {"folded" | "full" | "none"} [replay]
 * @property {readonly Transport[]} [transports] in the order of preference
 * @property {Memory} [memory]
 * @property {number} [max_retries]
 * @property {string} [base] the gateway's address; "" is the page's own
 * @property {AbortSignal} [signal]
 * @property {typeof globalThis.fetch} [fetch]
 * @property {typeof globalThis.WebSocket} [WebSocket]
 */

/**
 * `closed` resolves to the reason when following is over, and rejects only when a callback threw. `command` sends
 * over the WebSocket in use and resolves to the reply, or to null when there is none to send over. `wake` cuts a
 * waiting time short (the network is back).
 * @typedef {object} Following
 * @property {Promise<import("./policy.js").Reason>} closed
 * @property {import("./transports.js").Command} command
 * @property {() => void} wake
 */

const POLL_WAIT_S = 25;

/** @param {Options} options @returns {Following} */
export function follow(options) {
  const follower = new Follower(options);
  return {
    closed: follower.drive(),
    command: (type, fields) => follower.command?.(type, fields) ?? Promise.resolve(null),
    wake: () => follower.wake(),
  };
}

class Follower {
  /** @type {import("./transports.js").Command | null} */
  command = null;
  wake = () => {};

  #options;
  #signal;
  #state;
  /** @type {string | null} */
  #cursor;
  /** What a callback threw. @type {{error: unknown} | null} */
  #broken = null;

  /** @param {Options} options */
  constructor(options) {
    this.#options = options;
    this.#signal = options.signal ?? new AbortController().signal;
    this.#cursor = options.after ?? null;
    const { transports, max_retries, memory } = options;
    this.#state = initial({ ...memory, ...(transports && { transports }), ...(max_retries && { max_retries }) });
  }

  /** @returns {Promise<import("./policy.js").Reason>} */
  async drive() {
    let action = this.#decide({ type: this.#signal.aborted ? "aborted" : "begin" });
    while (action.do === "connect") {
      if (action.delay_ms > 0) {
        this.#report({ retry_in_ms: action.delay_ms });
        await this.#sleep(action.delay_ms);
      }
      this.#decide({ type: "attempt" });
      this.#report();
      const outcome = await this.#attempt(action);
      if (this.#broken) throw this.#broken.error;
      action = this.#decide(this.#signal.aborted ? { type: "aborted" } : outcome);
    }
    const reason = action.do === "stop" ? action.reason : "aborted";
    this.#report({ reason });
    return reason;
  }

  /** @param {Outcome} outcome @returns {Action} */
  #decide(outcome) {
    const [state, action] = decide(this.#state, outcome, { now: Date.now(), random: Math.random() });
    this.#state = state;
    const { memory } = this.#options;
    if (memory) Object.assign(memory, { worked: state.worked, fell_back_at: state.fell_back_at });
    return action;
  }

  /** @param {{retry_in_ms?: number, reason?: import("./policy.js").Reason}} [more] */
  #report({ retry_in_ms, reason } = {}) {
    const { status, transport } = this.#state;
    this.#options.onConnection?.({ status, transport, retry_in_ms: retry_in_ms ?? null, reason: reason ?? null });
  }

  /** Until the time is over, someone wakes it, or the caller has enough. @param {number} ms @returns {Promise<void>} */
  #sleep(ms) {
    return new Promise((resolve) => {
      const wake = () => {
        clearTimeout(timer);
        this.#signal.removeEventListener("abort", wake);
        this.wake = () => {};
        resolve();
      };
      const timer = setTimeout(wake, ms);
      this.wake = wake;
      this.#signal.addEventListener("abort", wake);
      if (this.#signal.aborted) wake();
    });
  }

  /** One connection from opening to end. @param {Action & {do: "connect"}} action @returns {Promise<Outcome>} */
  async #attempt({ transport, refresh }) {
    if (this.#signal.aborted) return { type: "aborted" };
    const { run, getToken, base = "", replay = "folded" } = this.#options;
    const { fetch = globalThis.fetch.bind(globalThis), WebSocket = globalThis.WebSocket } = this.#options;
    /** @type {string | null} */
    let token;
    try {
      token = await getToken({ refresh });
    } catch {
      return { type: "unreachable" };
    }
    const connection = new AbortController();
    const abort = () => connection.abort();
    this.#signal.addEventListener("abort", abort);
    if (this.#signal.aborted) abort();
    /** What ended it, when that was decided here. @type {Outcome | null} */
    let verdict = null;
    /** @param {Outcome} outcome */
    const cut = (outcome) => {
      verdict ??= outcome;
      abort();
    };
    // The first long-poll asks for what there is, so that its answer shows soon that polling works.
    const wait_s = this.#state.status === "connected" ? POLL_WAIT_S : 0;
    let watchdog = setTimeout(cut, OPEN_TIMEOUT_MS + wait_s * 1000, { type: "open_timeout" });
    let greeted = false;

    /** @param {Frame} frame */
    const deliver = async (frame) => {
      if (verdict || connection.signal.aborted) return;
      greeted ||= frame.type === "hello";
      if (greeted) {
        clearTimeout(watchdog);
        if (frame.type === "hello") this.#greet(frame);
        watchdog = setTimeout(cut, silenceMs(this.#state), { type: "lost" });
      }
      try {
        if (await this.#take(frame)) cut({ type: "terminal" });
      } catch (error) {
        this.#broken = { error };
        cut({ type: "aborted" });
      }
    };
    const outcome = await OPEN[transport]({
      base,
      run,
      after: this.#cursor,
      replay,
      token,
      wait_s,
      signal: connection.signal,
      deliver,
      commands: (command) => (this.command = command),
      fetch,
      WebSocket,
    });
    clearTimeout(watchdog);
    this.#signal.removeEventListener("abort", abort);
    abort();
    return verdict ?? outcome;
  }

  /** @param {Frame} hello */
  #greet({ heartbeat_ms, retry_ms }) {
    this.#decide({ type: "hello", heartbeat_ms, retry_ms });
    this.#report();
  }

  /** Whether the frame ends the run's stream. @param {Frame} frame @returns {Promise<boolean>} */
  async #take(frame) {
    if (frame.type === "gap") {
      this.#cursor = null;
      this.#cursor = (await this.#options.onGap?.()) ?? null;
    } else if (frame.type === "cursor") {
      if (parseCursor(frame["cursor"])) this.#cursor = frame["cursor"];
    } else if (frame.type === "reconnect") {
      this.#decide({ type: "reconnect", after_ms: frame["after_ms"] });
    } else if (frame.type === "auth.expiring") {
      if (this.#decide({ type: "expiring" }).do === "refresh") this.#renew();
    } else if (frame.type !== "hello") {
      this.#decide({ type: "frame" });
      if (frame.id !== undefined) return this.#event(frame);
    }
    return false;
  }

  /** @param {Frame} frame */
  #event(frame) {
    const event = /** @type {import("./state.js").RunEvent} */ (frame);
    if (event.run !== this.#options.run || !follows(this.#cursor, event.id)) return false;
    this.#cursor = event.id;
    this.#options.onEvent(event);
    return isTerminal(event.type);
  }

  /** Only a WebSocket can take a fresh token; the others end with the old one and come back with a new one. */
  async #renew() {
    const { command } = this;
    if (!command) return;
    try {
      const token = await this.#options.getToken({ refresh: true });
      const reply = await command("authenticate", { token });
      if (reply?.ok) this.#decide({ type: "renewed" });
    } catch {
      // The connection ends when the old token does; the policy goes on from there.
    }
  }
}
