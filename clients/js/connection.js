// One connection for the runs that a page follows: the policy's hands and feet (PROTOCOL sections 3 and 9).
//
// Rule 1: the policy decides, this file does: opens, waits, keeps the timers and the cursors. It holds no run's state.
// Rule 2: each event is given to its run once and in order, whatever broke in between and whichever runs come and go;
// after a gap it starts over, and says so.
// Rule 3: at most one connection is open; it ends when nobody follows anything, and begins again when somebody does.
// It is longer than most: opening, waiting and ending share every field, and only together are they right.

import { follows, parseCursor } from "./cursor.js";
import { AWAY, CONNECTING } from "./late.js";
import { decide, initial, OPEN_TIMEOUT_MS, silenceMs } from "./policy.js";
import { isTerminal } from "./state.js";
import { OPEN } from "./transports.js";

/** @typedef {import("./policy.js").Outcome} Outcome */
/** @typedef {import("./policy.js").Action} Action */
/** @typedef {import("./policy.js").Transport} Transport */
/** @typedef {import("./api.js").Problem} Problem */
/** @typedef {import("./transports.js").Frame} Frame */

/**
 * `retry_in_ms` while retrying; `reason` once it is over, `problem` what the gateway said then, if it did.
 * @typedef {object} Link
 * @property {import("./policy.js").Status} status
 * @property {Transport} transport
 * @property {number | null} retry_in_ms
 * @property {import("./policy.js").Reason | null} reason
 * @property {Problem | null} [problem]
 */

/**
 * One run on a connection, which moves its `cursor` (null: nothing was seen yet). `event` is told where that was
 * before: a folded event holds all that came since. `gap`: the history after the cursor is gone; no further frame is
 * given before its promise is done.
 * @typedef {object} Subscription
 * @property {string} run
 * @property {string | null} cursor
 * @property {(event: import("./state.js").RunEvent, before: string | null) => void} event
 * @property {(gap: Frame) => Promise<void> | void} gap
 * @property {(link: Link) => void} link
 */

/**
 * What worked, for the next time; the caller keeps it.
 * @typedef {{worked?: Transport | null, fell_back_at?: number | null}} Memory
 */

/**
 * `transports` in the order of preference; `timeout`: until the first frame; a client may be more patient than the
 * gateway asks (`retryDelay`, `heartbeatInterval`), never less. All times in milliseconds.
 * @typedef {object} ConnectionOptions
 * @property {string} base the gateway's address; "" is the page's own
 * @property {import("./api.js").GetToken} getToken
 * @property {"folded" | "full" | "none"} [replay]
 * @property {readonly Transport[]} [transports]
 * @property {number} [maxRetries]
 * @property {number} [retryDelay]
 * @property {number} [timeout]
 * @property {number} [heartbeatInterval]
 * @property {Memory} [memory]
 * @property {() => void} [changed]
 * @property {import("./debug.js").Say} [debug]
 * @property {typeof globalThis.fetch} [fetch]
 * @property {typeof globalThis.WebSocket} [WebSocket]
 */

const POLL_WAIT_S = 25;
// Runs that come and go together change the connection once.
const SETTLE_MS = 20;

export class Connection {
  link = AWAY;

  #options;
  #memory;
  #state;
  /** @type {Map<string, Subscription>} */
  #subscriptions = new Map();
  /** Nobody wants them any more; they go with the next change. @type {Set<Subscription>} */
  #leaving = new Set();
  /** What the connection that is open was opened for. @type {readonly Subscription[]} */
  #carried = [];
  /** @type {import("./transports.js").Controls} */
  #controls = null;
  #cut = (/** @type {Outcome} */ _outcome) => {};
  /** @type {Problem | null} */
  #problem = null;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #settling;
  #driving = false;
  #opened = false;
  /** The token is no good, and there is no other yet. */
  #stale = false;
  #awake = () => {};

  /** @param {ConnectionOptions} options */
  constructor(options) {
    this.#options = options;
    this.#memory = options.memory ?? {};
    this.#state = initial();
  }

  /** What is open, for whom. */
  get connections() {
    return this.#driving ? [{ ...this.link, runs: [...this.#subscriptions.keys()] }] : [];
  }

  /** @param {Subscription} subscription */
  join(subscription) {
    const before = this.#subscriptions.get(subscription.run);
    this.#leaving.delete(subscription);
    this.#subscriptions.set(subscription.run, subscription);
    // What is open goes on where the other one was.
    if (this.#opened && before && before !== subscription) this.#cut({ type: "begin" });
    if (!this.#driving) this.link = CONNECTING;
    subscription.link(this.link);
    this.#settle();
  }

  /** @param {Subscription} subscription */
  leave(subscription) {
    this.#leaving.add(subscription);
    this.#settle();
  }

  /** The network is back: wait no longer, and trust no connection that is older. */
  wake() {
    if (this.#driving) this.#cut({ type: "begin" });
  }

  /** Send over the WebSocket in use; null when there is none, or no reply. @type {import("./transports.js").Command} */
  command = async (type, fields) => this.#controls?.command(type, fields) ?? null;

  #settle() {
    this.#settling ??= setTimeout(() => this.#change(), this.#driving ? SETTLE_MS : 0);
  }

  /** Follow what is wanted now: over the open connection, or over a new one from where each run is. */
  #change() {
    this.#settling = undefined;
    this.#drop(this.#leaving);
    this.#leaving.clear();
    const wanted = [...this.#subscriptions.values()];
    if (!this.#driving) {
      if (wanted.length) this.#drive();
    } else if (!wanted.length) {
      this.#carried = [];
      this.#cut({ type: "aborted" });
    } else if (this.#opened && `${wanted.map(runOf)}` !== `${this.#carried.map(runOf)}`) {
      if (this.#controls) this.#controls.change((this.#carried = wanted));
      else this.#cut({ type: "begin" });
    }
  }

  /** Their runs may have others by now. @param {Iterable<Subscription>} subscriptions */
  #drop(subscriptions) {
    for (const one of subscriptions) {
      if (this.#subscriptions.get(one.run) === one) this.#subscriptions.delete(one.run);
    }
  }

  async #drive() {
    const { transports, maxRetries: max_retries, retryDelay: retry_ms, debug, changed } = this.#options;
    this.#driving = true;
    this.#state = initial({ ...this.#memory, transports, max_retries, retry_ms });
    let action = this.#decide({ type: "begin" });
    while (action.do === "connect") {
      /** What ended it, when that was decided here. @type {Outcome | null} */
      let verdict = null;
      const open = new AbortController();
      this.#cut = (outcome) => {
        verdict ??= outcome;
        open.abort();
        this.#awake();
      };
      if (action.delay_ms > 0) {
        this.#report({ retry_in_ms: this.#state.status === "connected" ? null : action.delay_ms });
        await this.#sleep(action.delay_ms);
      }
      this.#decide({ type: "attempt" });
      this.#report();
      if (!verdict) {
        this.#opened = true;
        this.#carried = [...this.#subscriptions.values()];
        const seen = await this.#attempt(action, open.signal);
        verdict ??= seen;
        this.#opened = false;
        this.#controls = null;
        open.abort();
      }
      action = this.#decide(verdict);
      debug?.("%o → %o", verdict, action);
    }
    this.#driving = false;
    const reason = action.do === "stop" ? action.reason : "aborted";
    this.#report({ reason });
    this.#drop(this.#carried);
    this.#drop(this.#leaving);
    // Some may have come while it ended.
    for (const one of this.#subscriptions.values()) this.join(one);
    changed?.();
  }

  /** @param {Outcome} outcome @returns {Action} */
  #decide(outcome) {
    const [state, action] = decide(this.#state, outcome, { now: Date.now(), random: Math.random() });
    this.#state = state;
    Object.assign(this.#memory, { worked: state.worked, fell_back_at: state.fell_back_at });
    if (action.do === "connect") this.#stale ||= action.refresh;
    return action;
  }

  /** @param {Partial<Link>} [more] */
  #report({ retry_in_ms = null, reason = null } = {}) {
    const { status, transport } = this.#state;
    const { link } = this;
    if (link.status === status && link.transport === transport && link.retry_in_ms === retry_in_ms && !reason) return;
    this.link = Object.freeze({ status, transport, retry_in_ms, reason, problem: reason && this.#problem });
    for (const one of reason ? this.#carried : this.#subscriptions.values()) one.link(this.link);
    this.#options.changed?.();
  }

  /** Until the time is over, or someone wakes it. @param {number} ms @returns {Promise<void>} */
  #sleep(ms) {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.#awake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  /**
   * One connection from opening to end.
   * @param {Action & {do: "connect"}} action
   * @param {AbortSignal} signal
   * @returns {Promise<Outcome>}
   */
  async #attempt({ transport }, signal) {
    const { base, getToken, replay = "folded", timeout = OPEN_TIMEOUT_MS } = this.#options;
    const { fetch = globalThis.fetch.bind(globalThis), WebSocket = globalThis.WebSocket } = this.#options;
    // The first long-poll asks for what there is, so that its answer shows soon that polling works.
    const wait_s = transport === "poll" && this.#state.status === "connected" ? POLL_WAIT_S : 0;
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    let watchdog;
    let greeted = false;
    const watch = () => {
      clearTimeout(watchdog);
      watchdog = greeted
        ? setTimeout(this.#cut, this.#silenceMs(), { type: "lost" })
        : setTimeout(this.#cut, timeout + wait_s * 1000, { type: "open_timeout" });
    };
    try {
      // Asking a person takes its time; an end does not wait for it.
      const token = await Promise.race([getToken({ refresh: this.#stale }), aborted(signal)]);
      this.#stale = false;
      watch();
      return await OPEN[transport]({
        base,
        joins: this.#carried,
        replay,
        token: token ?? null,
        wait_s,
        signal,
        deliver: (frame) => {
          if (signal.aborted) return;
          greeted ||= frame.type === "hello";
          if (frame.type === "hello") this.#greet(frame);
          watch();
          return this.#take(frame, signal);
        },
        gone: (run) => this.#done(run, "not_found"),
        refused: (problem) => (this.#problem = problem),
        controls: (controls) => (this.#controls = controls),
        fetch,
        WebSocket,
      });
    } catch {
      return { type: "unreachable" }; // no token: the same as no answer
    } finally {
      clearTimeout(watchdog);
    }
  }

  #silenceMs() {
    const { heartbeatInterval = 0 } = this.#options;
    return silenceMs({ ...this.#state, heartbeat_ms: Math.max(this.#state.heartbeat_ms, heartbeatInterval) });
  }

  /** @param {Frame} hello */
  #greet({ heartbeat_ms, retry_ms }) {
    const { retryDelay = 0 } = this.#options;
    this.#problem = null;
    this.#decide({ type: "hello", heartbeat_ms, retry_ms: Math.max(retry_ms, retryDelay) });
    this.#report();
  }

  /** @param {Frame} frame @param {AbortSignal} signal @returns {Promise<void> | void} */
  #take(frame, signal) {
    if (frame.type === "hello") return;
    const subscription = this.#subscriptions.get(frame["run"]);
    if (frame.type === "reconnect") this.#decide({ type: "reconnect", after_ms: frame["after_ms"] });
    else if (frame.type === "auth.expiring") {
      if (this.#decide({ type: "expiring" }).do === "refresh") this.#renew();
    } else if (frame.type === "cursor") {
      if (subscription && parseCursor(frame["cursor"])) subscription.cursor = frame["cursor"];
      if (frame["done"]) this.#done(frame["run"], "terminal");
    } else if (frame.type === "reply" && !frame["ok"]) {
      return; // a refusal earns nothing: no fresh count of failures, no further token
    } else {
      this.#decide({ type: "frame" });
      if (!subscription) return;
      if (frame.type === "gap") {
        subscription.cursor = null;
        // Reading the run's state takes its time; an end does not wait for it.
        return Promise.race([subscription.gap(frame), aborted(signal)]);
      }
      if (frame.id !== undefined) this.#event(subscription, /** @type {any} */ (frame));
    }
  }

  /** @param {Subscription} subscription @param {import("./state.js").RunEvent} event */
  #event(subscription, event) {
    if (!follows(subscription.cursor, event.id)) return;
    const before = subscription.cursor;
    subscription.cursor = event.id;
    subscription.event(event, before);
    if (isTerminal(event.type)) this.#done(event.run, "terminal");
  }

  /** Nothing more comes of this run. @param {string} run @param {"terminal" | "not_found"} reason */
  #done(run, reason) {
    const subscription = this.#subscriptions.get(run);
    if (!subscription) return;
    this.#subscriptions.delete(run);
    this.#carried = this.#carried.filter((one) => one !== subscription);
    const status = reason === "terminal" ? "disconnected" : "error";
    subscription.link(Object.freeze({ ...this.link, status, reason }));
    if (!this.#carried.length) this.#cut({ type: this.#subscriptions.size ? "begin" : "terminal" });
  }

  /** Only a WebSocket can take a fresh token; the others end with the old one and come back with a new one. */
  async #renew() {
    const controls = this.#controls;
    if (!controls) return;
    try {
      const token = await this.#options.getToken({ refresh: true });
      const reply = await controls.command("authenticate", { token });
      if (reply?.ok && controls === this.#controls) this.#decide({ type: "renewed" });
    } catch {
      // The connection ends when the old token does; the policy goes on from there.
    }
  }
}

/** @param {Subscription} subscription */
function runOf({ run }) {
  return run;
}

/** Rejects with the signal. @param {AbortSignal} signal @returns {Promise<never>} */
function aborted(signal) {
  return new Promise((_, reject) => {
    signal.addEventListener("abort", () => reject(signal.reason));
    if (signal.aborted) reject(signal.reason);
  });
}
