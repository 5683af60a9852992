// A gateway, as an application has it: runs to start, to list and to follow.
//
// Rule 1: nothing is opened before somebody watches a run, and nothing stays open when nobody does.
// Rule 2: a run is one object for as long as anybody holds it, so that all who watch it share what is followed.

import { createApi, persist, Problem } from "./api.js";
import { debug } from "./debug.js";
import { Late } from "./late.js";
import { Run } from "./run.js";

/** @typedef {import("./state.js").RunEvent} RunEvent */
/** @typedef {import("./state.js").RunState} RunState */
/** @typedef {import("./connection.js").ConnectionOptions} ConnectionOptions */
/** @typedef {{refresh: boolean}} Want `refresh`: the token that was used last is no good. */
/** @typedef {string | null | ((want: Want) => string | null | Promise<string | null>)} TokenSource */

/** @typedef {import("./connection.js").Link & {runs: readonly string[]}} OpenConnection */

/**
 * Connections that are kept elsewhere, for instance by one of many tabs.
 * @typedef {Pick<Late, "connections" | "join" | "leave" | "command" | "wake">} Connections
 * @typedef {{call: import("./api.js").Call, base: string, replay: string, changed: () => void}} Near
 * @typedef {(own: (changed: () => void) => Connections, near: Near) => Connections} Share
 */

/**
 * `url`: the gateway's address (default: the page's own). `getToken`: the token, or a function that gives it; called
 * again, with `refresh`, when the gateway wants a fresh one. `replay`: whether the past is sent folded (default) or in
 * full. `share`: see tabs.js. The rest is ConnectionOptions'.
 * @typedef {Partial<Omit<ConnectionOptions, "base" | "getToken" | "replay" | "changed" | "debug">> &
 *   {url?: string, getToken?: TokenSource, replay?: "folded" | "full", share?: Share}} ClientOptions
 */

/**
 * The gateway's own options of a run, and: `key`, an Idempotency-Key (default: a new one); `owner`: start for someone else.
 * @typedef {{on_disconnect?: "continue" | "cancel", disconnect_grace_s?: number, budget_usd?: number,
 *   timeout_s?: number, key?: string, owner?: string, signal?: AbortSignal}} StartOptions
 */

/**
 * @typedef {object} Callbacks
 * @property {(event: RunEvent) => void} [onProgress]
 * @property {(event: RunEvent) => void} [onDraft]
 * @property {(event: RunEvent) => void} [onDelta]
 * @property {(result: any, state: RunState) => void} [onComplete]
 * @property {(error: Problem) => void} [onError] it could not be started or followed, failed, or was cancelled
 */

const START_TRIES = 3;
/** @type {readonly import("./policy.js").Status[]} */
const WORST = ["error", "retrying", "connecting", "connected"];

export class Client {
  /** Any request to the gateway, with the token. @type {import("./api.js").Call} */
  call;

  /** @type {import("./run.js").Owner} */
  #owner;
  /** @type {Map<string, WeakRef<Run>>} */
  #runs = new Map();
  #forgotten = new FinalizationRegistry((/** @type {string} */ id) => {
    if (!this.#runs.get(id)?.deref()) this.#runs.delete(id);
  });
  /** @type {Set<() => void>} */
  #listeners = new Set();
  /** @type {readonly OpenConnection[]} */
  #connections = [];

  /** @param {ClientOptions} [options] */
  constructor({ url = "", getToken: source = null, replay = "folded", share, ...options } = {}) {
    const base = url.replace(/\/+$/, "");
    const getToken = once(source);
    this.call = createApi({ base, getToken, fetch: options.fetch });
    /** @param {() => void} changed */
    const own = (changed) =>
      new Late({ base, getToken, replay, ...options, changed, debug: debug("connection") });
    const changed = () => this.#changed();
    this.#owner = {
      replay,
      call: this.call,
      run: (id) => this.run(id),
      pool: share ? share(own, { call: this.call, base, replay, changed }) : own(changed),
    };
  }

  /** A run that is there already. @param {string} id @returns {Run} */
  run(id) {
    let run = this.#runs.get(id)?.deref();
    if (!run) {
      run = new Run(id, this.#owner);
      this.#runs.set(id, new WeakRef(run));
      this.#forgotten.register(run, id);
    }
    return run;
  }

  /**
   * Start a run. A request that got no answer, or is to be made again soon, is: with the same key, so it starts one run.
   * @param {string} pipeline
   * @param {unknown} input
   * @param {StartOptions} [options]
   * @returns {Promise<Run>}
   */
  async start(pipeline, input, { key = newKey(), owner, signal, ...options } = {}) {
    const sent = { body: { pipeline, input, options, owner }, headers: { "Idempotency-Key": key }, signal };
    const { id } = await persist(() => this.call("POST", "/runs", sent), { tries: START_TRIES, signal });
    return this.run(id);
  }

  /**
   * The caller's runs, newest first; `before` is the `next` of the page before.
   * @param {{status?: import("./state.js").RunStatus, pipeline?: string, limit?: number, before?: string,
   *   signal?: AbortSignal}} [filter]
   * @returns {Promise<{runs: RunState[], next: string | null}>}
   */
  runs({ signal, ...filter } = {}) {
    const query = Object.entries(filter).flatMap(([name, value]) => (value == null ? [] : [[name, `${value}`]]));
    return this.call("GET", `/runs?${new URLSearchParams(query)}`, { signal });
  }

  /**
   * Start a run and be called back. Resolves once it has begun, to null when it could not; without `onError` that is thrown.
   * @param {unknown} input
   * @param {Callbacks & StartOptions & {pipeline?: string}} [how]
   * @returns {Promise<Run | null>}
   */
  async generate(
    input,
    { pipeline = "content", onProgress, onDraft, onDelta, onComplete, onError, ...options } = {},
  ) {
    /** @type {Run} */
    let run;
    try {
      run = await this.start(pipeline, input, options);
    } catch (error) {
      if (!onError) throw error;
      onError(/** @type {Problem} */ (error));
      return null;
    }
    const calls = { progress: onProgress, draft: onDraft, delta: onDelta };
    const stop = run.on("*", (event) => calls[/** @type {"delta"} */ (event.type)]?.(event));
    run
      .finished()
      .then(
        (state) => {
          if (state.status === "completed") onComplete?.(state.result, state);
          else onError?.(failureOf(state));
        },
        (error) => onError?.(error),
      )
      .finally(stop);
    return run;
  }

  /** What is open now. */
  get connections() {
    return this.#connections;
  }

  /** The least good of the connections' states. @returns {import("./policy.js").Status} */
  get status() {
    const found = this.#connections.map(({ status }) => status);
    return WORST.find((status) => found.includes(status)) ?? "disconnected";
  }

  /** Called after each change of `connections` or `status`. @param {() => void} listener @returns {() => void} ends it */
  subscribe = (listener) => {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  };

  /** Connect anew: what waits, what has given up, and what is open, which may be dead and not know it. */
  reconnect = () => {
    this.#owner.pool.wake();
    for (const run of this.#runs.values()) run.deref()?.reconnect();
  };

  /** Every run is closed, every connection ended. It can be used again. */
  closeAll() {
    for (const run of this.#runs.values()) run.deref()?.close();
  }

  #changed() {
    const idle = this.#connections.length === 0;
    this.#connections = Object.freeze(this.#owner.pool.connections);
    if (idle !== (this.#connections.length === 0)) {
      // Only while something is open, so that nothing of a client is left behind.
      if (idle) globalThis.addEventListener?.("online", this.reconnect);
      else globalThis.removeEventListener?.("online", this.reconnect);
    }
    for (const listener of [...this.#listeners]) listener();
  }
}

/** However many want a fresh token at once, it is asked for once. @param {TokenSource} source @returns {import("./api.js").GetToken} */
function once(source) {
  /** @type {Promise<string | null> | null} */
  let pending = null;
  return async (want) => {
    if (typeof source !== "function") return source;
    if (!want.refresh) return pending ?? source(want);
    pending ??= Promise.resolve(source(want)).finally(() => (pending = null));
    return pending;
  };
}

function newKey() {
  return `${Date.now().toString(36)}-${Math.random().toString(36).slice(2)}${Math.random().toString(36).slice(2)}`;
}

/** @param {RunState} state */
function failureOf({ status, error, id }) {
  const { code, message, ...more } = error ?? { code: `run.${status}`, message: `The run ${id} was ${status}` };
  return new Problem({ ...more, code, title: message });
}
