// One run being watched: its state, its connection, what can be asked of it.
//
// Rule 1: no page here. Whoever shows it is told by `changed` (state, connection or problem) and `logged` (events).
// Rule 2: a run is read once and then followed from the cursor of that reading; after a gap, the same again.
// Rule 3: opening a run ends the watching of the one before it, wherever that was.

import { parseCursor } from "../js/cursor.js";
import { follow } from "../js/follow.js";
import { TRANSPORTS } from "../js/policy.js";
import { apply, initialState, isFinished } from "../js/state.js";

/** @typedef {import("../js/state.js").RunEvent} RunEvent */
/** @typedef {import("../js/state.js").RunState} RunState */
/** @typedef {import("../js/follow.js").Connection} Connection */

/** The most events of the past that are fetched to be shown. */
export const PAST = 2000;
const PAGE = 1000;
const TOLD_BY_EVENTS_ONLY = "stage.started,stage.completed,input.requested,input.received";

/** @type {Connection} */
const AWAY = { status: "disconnected", transport: "sse", retry_in_ms: null, reason: null };

export class Watch {
  /** @type {string | null} */
  id = null;
  /** Null until it was read. @type {RunState | null} */
  state = null;
  /** Why it cannot be shown. @type {Error | null} */
  problem = null;
  connection = AWAY;
  /** Which ways may be used; "auto" is the protocol's order. @type {import("../js/policy.js").Transport | "auto"} */
  choice = "auto";

  #call;
  #getToken;
  #changed;
  #logged;
  #ending = new AbortController();
  /** @type {import("../js/follow.js").Following | null} */
  #following = null;
  /** @type {import("../js/follow.js").Memory} */
  #memory = {};

  /**
   * @param {{call: import("../js/api.js").Call, getToken: import("../js/api.js").GetToken, changed: () => void,
   *   logged: (events: RunEvent[], fresh: boolean) => void}} options `fresh`: what was logged before is void
   */
  constructor({ call, getToken, changed, logged }) {
    this.#call = call;
    this.#getToken = getToken;
    this.#changed = changed;
    this.#logged = logged;
    globalThis.addEventListener("online", () => this.#following?.wake());
  }

  /** Watch a run, or none. @param {string | null} id */
  async open(id) {
    const signal = this.#begin();
    this.id = id;
    this.state = this.problem = null;
    this.connection = id ? { ...AWAY, status: "connecting" } : AWAY;
    this.#logged([], true);
    this.#changed();
    if (id) await this.#unlessAborted(signal, () => this.#watch(id, signal));
  }

  /** Connect anew, from the cursor that was reached. */
  async reconnect() {
    const { id, state } = this;
    if (!id) return;
    if (!state) return this.open(id);
    if (isFinished(state.status)) return;
    const signal = this.#begin();
    await this.#unlessAborted(signal, () => this.#follow(id, signal));
  }

  /** Ask for the run's end: over the WebSocket if there is one, else by POST. */
  async cancel() {
    if (!this.id) return;
    const reply = await this.#following?.command("cancel", { run: this.id, reason: REASON });
    if (!reply?.ok) await this.#call("POST", `${this.#path}/cancel`, { body: { reason: REASON } });
  }

  /** @returns {Promise<string>} the new run's id */
  async retry() {
    return (await this.#call("POST", `${this.#path}/retry`)).id;
  }

  async erase() {
    await this.#call("DELETE", this.#path);
  }

  /** @param {string} input_id @param {unknown} value */
  async answer(input_id, value) {
    await this.#call("POST", `${this.#path}/input`, { body: { input_id, value } });
  }

  get #path() {
    return `/runs/${encodeURIComponent(this.id ?? "")}`;
  }

  #begin() {
    this.#ending.abort();
    this.#following = null;
    this.#ending = new AbortController();
    return this.#ending.signal;
  }

  /** @param {AbortSignal} signal @param {() => Promise<void>} work */
  async #unlessAborted(signal, work) {
    try {
      await work();
    } catch (error) {
      if (signal.aborted) return;
      this.problem = /** @type {Error} */ (error);
      this.connection = AWAY;
      this.#changed();
    }
  }

  /** @param {string} id @param {AbortSignal} signal */
  async #watch(id, signal) {
    const tail = await this.#read(signal);
    await this.#past(tail, signal);
    if (signal.aborted) return;
    if (isFinished(this.state?.status ?? "")) {
      this.connection = { ...AWAY, reason: "terminal" };
      this.#changed();
    } else await this.#follow(id, signal);
  }

  /**
   * The run as it is, and the cursor that goes with it.
   * @param {AbortSignal} signal
   * @returns {Promise<string | null>}
   */
  async #read(signal) {
    const read = await this.#call("GET", this.#path, { signal });
    signal.throwIfAborted();
    this.state = initialState(read);
    this.#changed();
    return this.state.tail;
  }

  /**
   * What the reading does not tell: stages, open questions, and the log.
   * @param {string | null} tail
   * @param {AbortSignal} signal
   */
  async #past(tail, signal) {
    const cursor = parseCursor(tail);
    if (!cursor) return;
    const far = cursor.offset > PAST;
    const log = await this.#events(far ? `${cursor.epoch}-${cursor.offset - PAST}` : null, cursor.offset, "", signal);
    const telling = far ? await this.#events(null, cursor.offset, TOLD_BY_EVENTS_ONLY, signal) : log;
    signal.throwIfAborted();
    const { stages, inputs } = telling.reduce(apply, initialState());
    if (this.state) this.state = { ...this.state, stages, inputs };
    this.#logged(log, false);
    this.#changed();
  }

  /**
   * @param {string | null} after
   * @param {number} last the offset to stop at
   * @param {string} types
   * @param {AbortSignal} signal
   */
  async #events(after, last, types, signal) {
    /** @type {RunEvent[]} */
    const events = [];
    for (let cursor = after; ; ) {
      const query = new URLSearchParams({ replay: "folded", wait: "0", limit: String(PAGE) });
      if (cursor) query.set("after", cursor);
      if (types) query.set("types", types);
      const page = await this.#call("GET", `${this.#path}/events?${query}`, { signal });
      for (const event of page.events) {
        // What came after the reading is left to the stream; a joined event may end beyond it.
        if ((parseCursor(event.id)?.offset ?? Infinity) <= last) events.push(event);
      }
      const reached = parseCursor(page.cursor)?.offset ?? 0;
      if (page.done || reached >= last || page.cursor === cursor) return events;
      cursor = page.cursor;
    }
  }

  /** @param {string} id @param {AbortSignal} signal */
  async #follow(id, signal) {
    this.#following = follow({
      run: id,
      after: this.state?.tail ?? null,
      getToken: this.#getToken,
      transports: this.choice === "auto" ? TRANSPORTS : [this.choice],
      memory: this.choice === "auto" ? this.#memory : {},
      signal,
      onEvent: (event) => {
        this.state = apply(this.state ?? initialState(), event);
        this.#logged([event], false);
        this.#changed();
      },
      onGap: async () => {
        this.#logged([], true);
        const tail = await this.#read(signal);
        await this.#past(tail, signal);
        return tail;
      },
      onConnection: (connection) => {
        if (signal.aborted) return;
        this.connection = connection;
        this.#changed();
      },
    });
    await this.#following.closed;
  }
}

const REASON = "stopped in the console";
