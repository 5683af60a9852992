// One run, as an application has it: its state, its events, what can be asked of it.
//
// Rule 1: it is followed while somebody watches it (an iteration, a listener, a subscriber, a wait for the end), and
// no longer. All watchers share one subscription, and all runs of a client its connections.
// Rule 2: `state` and `connection` are snapshots: they are replaced, never changed.
// Rule 3: an iteration sees every event once and in order, however late it begins and however slow it is: what it
// missed it reads from the log. It holds no more than QUEUED events.
// It is longer than most: most of it is the words that an editor shows.

import { AWAY } from "./late.js";
import { persist, Problem } from "./api.js";
import { follows, parseCursor } from "./cursor.js";
import { apply, initialState, isFinished, isTerminal } from "./state.js";

/** @typedef {import("./state.js").RunEvent} RunEvent */
/** @typedef {import("./state.js").RunState} RunState */
/** @typedef {import("./connection.js").Link} Link */
/** @typedef {{signal?: AbortSignal}} Waiting */

/**
 * What a run needs of its client.
 * @typedef {object} Owner
 * @property {import("./api.js").Call} call
 * @property {(id: string) => Run} run
 * @property {import("./client.js").Connections} pool
 * @property {"folded" | "full"} replay
 */

/**
 * `told`: an event, or a gap, and where the run was before. `changed`: state or connection.
 * @typedef {{told?: (event: RunEvent, before: string | null) => void, changed?: () => void}} Watcher
 */

const QUEUED = 1_000;
const REPLY_MS = 2_000;
const READ_TRIES = 10;

export class Run {
  #owner;
  /** @type {RunState} */
  #state;
  #link = AWAY;
  /** @type {Set<Watcher>} */
  #watchers = new Set();
  /** @type {import("./connection.js").Subscription} */
  #subscription;
  #joined = false;
  #telling = false;
  /** The state is being read; what comes meanwhile is in it. @type {object | null} */
  #reading = null;
  /** A gap that was told, and no event after it yet. @type {RunEvent | null} */
  #lost = null;

  /** By `client.run(id)`, not by hand. @param {string} id @param {Owner} owner @param {Partial<RunState>} [known] */
  constructor(id, owner, known) {
    this.id = id;
    this.#owner = owner;
    this.#state = Object.freeze(initialState({ id, ...known }));
    this.#subscription = {
      run: id,
      cursor: null,
      event: (event, before) => this.#event(event, before),
      gap: (gap) => this.#gap(/** @type {any} */ (gap)),
      link: (link) => this.#linked(link),
    };
  }

  /** What the events so far come to. */
  get state() {
    return this.#state;
  }

  /** How it is being followed. */
  get connection() {
    return this.#link;
  }

  /** Called after each change of `state` or `connection`. @param {() => void} changed @returns {() => void} ends it */
  subscribe = (changed) => this.#watch({ changed });

  /**
   * Called with each event of a type from now on; `"*"` are all of them. A `gap` says that the history was lost:
   * what was made of earlier events is void.
   * @param {string} type
   * @param {(event: RunEvent) => void} listener
   * @returns {() => void} ends it
   */
  on(type, listener) {
    return this.#watch({
      told: (event) => {
        if (type === "*" || type === event.type) listener(event);
      },
    });
  }

  /**
   * Every event after a cursor (default: from the start) until the terminal one, among them a `gap` when the history
   * was lost. Ends early when the signal is aborted or the run closed. Throws Problem when it cannot be followed.
   * @param {Waiting & {after?: string | null}} [options]
   * @returns {AsyncGenerator<RunEvent, void, void>}
   */
  async *events({ after = null, signal } = {}) {
    let cursor = after;
    /** @type {[event: RunEvent, before: string | null][]} */
    let queue = this.#lost && !after ? [[this.#lost, null]] : [];
    /** From where the queue goes on; what lies before it is read from the log. */
    let from = this.#over ? null : this.#subscription.cursor;
    let reading = Boolean(after || from || this.#over);
    let changed = () => {};
    /** @type {Watcher} */
    const watcher = {
      told: (event, before) => {
        if (queue.push([event, before]) > QUEUED) {
          queue = [];
          from = event.id;
          reading = true;
        }
        changed();
      },
      changed: () => changed(),
    };
    const stop = this.#watch(watcher);
    const end = () => changed();
    signal?.addEventListener("abort", end);
    try {
      while (!signal?.aborted) {
        const [first] = queue;
        if (!reading && first && !goesOn(first, cursor)) {
          // It holds a part of what was given, or does not know of it: the log tells what comes next.
          queue.shift();
          if (first[0].id === cursor || follows(first[0].id, cursor ?? "")) continue;
          from = first[0].id;
          reading = true;
        }
        const page = reading ? await this.#past(cursor, signal) : { events: queue.splice(0, 1).map(([event]) => event) };
        for (const event of page.events) {
          if (event.type === "gap") cursor = null;
          else if (follows(cursor, event.id)) cursor = event.id;
          else continue;
          yield event;
          if (isTerminal(event.type) || signal?.aborted) return;
        }
        if (reading) {
          const advanced = parseCursor(page.cursor) && page.cursor !== cursor;
          if (advanced) cursor = page.cursor;
          const missing = from ? cursor !== from && !follows(from, cursor ?? "") : this.#over;
          reading = missing && (advanced || page.events.length > 0);
        } else if (!queue.length) {
          if (!this.#joined || !this.#watchers.has(watcher)) return this.#ended();
          await new Promise((resolve) => (changed = () => resolve(null)));
          changed = () => {};
        }
      }
    } catch (error) {
      if (!signal?.aborted) throw error;
    } finally {
      signal?.removeEventListener("abort", end);
      stop();
    }
  }

  /**
   * The state at the end, however the run ended. Throws Problem when it cannot be followed so far.
   * @param {Waiting} [options]
   * @returns {Promise<RunState>}
   */
  async finished({ signal } = {}) {
    /** @type {(_: null) => void} */
    let go;
    const done = new Promise((resolve) => (go = resolve));
    const check = () => void ((this.#over || !(this.#joined || this.#reading) || signal?.aborted) && go(null));
    const stop = this.#watch({ changed: check });
    signal?.addEventListener("abort", check);
    check();
    await done;
    signal?.removeEventListener("abort", check);
    stop();
    signal?.throwIfAborted();
    if (!this.#over) {
      this.#ended();
      throw new Problem({ code: "connection.closed", title: "The run is not followed any more" });
    }
    return this.#state;
  }

  /**
   * Ask for the run's end: over the WebSocket if there is one, else by POST.
   * @param {string} [reason]
   * @returns {Promise<import("./state.js").RunStatus>} what the gateway acknowledged: `cancelling`, or how it ended
   */
  async cancel(reason) {
    const fields = reason === undefined ? {} : { reason };
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    let timer;
    // A connection may be dead and not know it.
    const late = new Promise((resolve) => (timer = setTimeout(resolve, REPLY_MS)));
    const reply = await Promise.race([this.#owner.pool.command("cancel", { run: this.id, ...fields }), late]);
    clearTimeout(timer);
    const { status, final } = reply?.ok ? reply : await this.#post("cancel", fields);
    return final ?? status;
  }

  /** At its next checkpoint. */
  async pause() {
    return (await this.#post("pause")).status;
  }

  async resume() {
    return (await this.#post("resume")).status;
  }

  /** Answer an `input.requested`. @param {string} input_id @param {unknown} value @returns {Promise<void>} */
  async input(input_id, value) {
    await this.#post("input", { input_id, value });
  }

  /** The same again. @returns {Promise<Run>} */
  async retry() {
    return this.#owner.run((await this.#post("retry")).id);
  }

  /** Let nobody follow it here any more: iterations end, listeners hear nothing. */
  close() {
    const watchers = [...this.#watchers];
    this.#watchers.clear();
    this.#leave();
    for (const { changed } of watchers) changed?.();
  }

  /** Try again after the connection has ended in `error`, for those who still watch. */
  reconnect() {
    if (this.#watchers.size) this.#join();
  }

  get #over() {
    return isFinished(this.#state.status);
  }

  /** @param {Watcher} watcher */
  #watch(watcher) {
    this.#watchers.add(watcher);
    this.#join();
    return () => {
      if (this.#watchers.delete(watcher) && !this.#watchers.size) this.#leave();
    };
  }

  #join() {
    if (this.#joined || this.#over) return;
    this.#joined = true;
    this.#owner.pool.join(this.#subscription);
  }

  #leave() {
    if (!this.#joined) return;
    this.#joined = false;
    this.#link = AWAY;
    this.#owner.pool.leave(this.#subscription);
  }

  /** @param {Link} link */
  #linked(link) {
    if (!this.#joined) return;
    this.#link = link;
    if (link.reason) this.#joined = false;
    this.#tell();
  }

  /** @param {RunEvent} event @param {string | null} before */
  #event(event, before) {
    this.#lost = null;
    // What was read after a gap is void when the log was lost once more: without a cursor no gap told of that.
    const read = parseCursor(this.#state.tail);
    if (read && !before && read.epoch !== parseCursor(event.id)?.epoch) this.#state = initialState({ id: this.id });
    const { tail } = this.#state;
    const next = apply(this.#state, event);
    const { stages, inputs } = next;
    const further = follows(tail, event.id);
    // Folded from before what the state was read at, it holds what that has a part of.
    if (further && tail && follows(before, tail)) this.#catchUp();
    // After a gap the state was read, and is further than the events; these it was not told.
    this.#state = Object.freeze(further && !this.#reading ? next : { ...this.#state, stages, inputs });
    this.#say(event, before);
  }

  /** Read the state, until it has all that came. */
  async #catchUp() {
    if (this.#reading) return;
    const mine = (this.#reading = {});
    let read;
    do read = await persist(() => this.#owner.call("GET", this.#path), { tries: READ_TRIES }).catch(() => null);
    while (read && this.#reading === mine && follows(read.tail, this.#subscription.cursor ?? ""));
    if (this.#reading !== mine) return;
    this.#reading = null;
    const { stages, inputs } = this.#state;
    if (read) this.#state = Object.freeze({ ...initialState(read), stages, inputs });
    this.#tell();
  }

  /** @param {RunEvent & {from: string}} gap */
  async #gap(gap) {
    this.#reading = null;
    const empty = (this.#state = Object.freeze(initialState({ id: this.id })));
    this.#say((this.#lost = gap), null);
    // When all is held from the first event on, the events tell it all.
    if (parseCursor(gap.from)?.offset === 1) return;
    const read = await this.#owner.call("GET", this.#path);
    // It came too late when another connection has begun to give the run anew.
    if (this.#state === empty) this.#state = Object.freeze(initialState(read));
    this.#tell();
  }

  /** @param {RunEvent} event @param {string | null} before */
  #say(event, before) {
    for (const { told } of [...this.#watchers]) {
      try {
        told?.(event, before);
      } catch (error) {
        raise(error);
      }
    }
    this.#tell();
  }

  /** All that came at once is told once. */
  #tell() {
    if (this.#telling) return;
    this.#telling = true;
    queueMicrotask(() => {
      this.#telling = false;
      for (const { changed } of [...this.#watchers]) {
        try {
          changed?.();
        } catch (error) {
          raise(error);
        }
      }
    });
  }

  get #path() {
    return `/runs/${encodeURIComponent(this.id)}`;
  }

  /** @param {string} command @param {object} [body] @returns {Promise<any>} */
  #post(command, body) {
    return this.#owner.call("POST", `${this.#path}/${command}`, { body });
  }

  /** @param {string | null} after @param {AbortSignal} [signal] */
  #past(after, signal) {
    const query = new URLSearchParams({ wait: "0", replay: this.#owner.replay, ...(after && { after }) });
    const read = () => this.#owner.call("GET", `${this.#path}/events?${query}`, { signal });
    return persist(read, { tries: READ_TRIES, signal });
  }

  /** Throws why it could not be followed to its end, if it could not. */
  #ended() {
    const { status, reason, problem } = this.#link;
    if (status !== "error") return;
    const code = reason === "not_found" ? "run.not_found" : `connection.${reason}`;
    throw problem ?? new Problem({ code, title: `The run cannot be followed: ${reason}` });
  }
}

/** @param {[event: RunEvent, before: string | null]} queued @param {string | null} cursor */
function goesOn([event, before], cursor) {
  return event.type === "gap" || !cursor || before === cursor;
}

/** What a listener throws is its own: it is thrown where nothing else breaks. @param {unknown} error */
function raise(error) {
  queueMicrotask(() => {
    throw error;
  });
}
