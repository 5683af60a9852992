// Stand-ins for what a client meets: a gateway's answers, a WebSocket, the tabs of a browser. They do what a test says
// when it says so, so that what comes together by chance elsewhere comes together each time.

import assert from "node:assert/strict";
import { setTimeout as pause } from "node:timers/promises";

/** @typedef {import("../../clients/js/state.js").RunEvent} RunEvent */
/** @typedef {import("../../clients/js/leader.js").Word} Word */
/** @typedef {{url: string, streamed: boolean, token: string | undefined, signal: AbortSignal | undefined}} Request */
/** @typedef {(request: Request) => Response | Promise<Response>} Answer */
/** @typedef {{type: string, ref: string, run?: string, after?: string}} Said A command of a client's. */

export const GATEWAY = "http://gateway";
const HELLO = { type: "hello", connection: "c", version: 1, heartbeat_ms: 60_000, retry_ms: 1, resume: "start" };
const PATIENCE_MS = 10_000;

/** @param {() => unknown} condition */
export async function until(condition) {
  for (const end = Date.now() + PATIENCE_MS; !condition(); await pause(2)) {
    assert.ok(Date.now() < end, `not within ${PATIENCE_MS} ms: ${condition}`);
  }
}

/** @param {number} offset @param {string} [type] @param {string} [epoch] @returns {RunEvent} */
export const event = (offset, type = "x.n", epoch = "a") => ({ type, run: "r", id: `${epoch}-${offset}`, ts: offset });

/** The deltas of these offsets as one, as a fold makes it. @param {number} first @param {number} last */
export function words(first, last) {
  const delta = Array.from({ length: last - first + 1 }, (_, at) => `${first + at},`).join("");
  return { ...event(last, "delta"), block: "b", delta };
}

/** A run's state with the words so far. @param {number} last @param {string} [status] */
export const stateAt = (last, status = "running") =>
  answer({ id: "r", status, tail: `a-${last}`, blocks: { b: words(1, last).delta } });

/** @param {object} body @param {number} [status] */
export const answer = (body, status = 200) =>
  new Response(JSON.stringify(body), { status, headers: { "Content-Type": "application/json" } });

/** @param {number} status @param {string} code */
export const refusal = (status, code) => answer({ code, title: code, retryable: status === 503 }, status);

/** A long-poll's answer. @param {object[]} events @param {string} cursor @param {object} [more] */
export const page = (events, cursor, more = {}) =>
  answer({ events, cursor, resume: "resumed", done: false, retry_ms: 1, heartbeat_ms: 60_000, ...more });

/** The words after the cursor in the address. @param {string} url @param {number} last */
export function wordsAfter(url, last) {
  const first = 1 + Number(/[?&]after=a-(\d+)/.exec(url)?.[1] ?? 0);
  return page(first > last ? [] : [words(first, last)], `a-${last}`);
}

/** A stream that stays open until it is ended; more can be put into it. @param {...object} frames */
export function stream(...frames) {
  const { readable, writable } = new TransformStream(undefined, undefined, { highWaterMark: Infinity });
  const writer = writable.getWriter();
  // Whoever reads may have gone.
  const ignore = () => {};
  writer.closed.catch(ignore);
  const put = (/** @type {object} */ frame) =>
    void writer.write(new TextEncoder().encode(`data: ${JSON.stringify(frame)}\n\n`)).catch(ignore);
  const end = () => void writer.close().catch(ignore);
  for (const frame of [HELLO, ...frames]) put(frame);
  const response = new Response(readable, { headers: { "Content-Type": "text/event-stream" } });
  return Object.assign(response, { put, end });
}

/** The same, and its end. @param {...object} frames */
export function broken(...frames) {
  const response = stream(...frames);
  response.end();
  return response;
}

/** A `fetch` that is answered here. @param {Answer} answered @returns {typeof globalThis.fetch} */
export function gateway(answered) {
  /** @param {any} url @param {any} sent */
  const fetch = (url, { headers, signal }) =>
    new Promise((resolve, reject) => {
      signal?.addEventListener("abort", () => reject(signal.reason));
      const streamed = headers.Accept === "text/event-stream";
      const token = headers.Authorization?.replace("Bearer ", "");
      Promise.resolve(answered({ url, streamed, token, signal })).then(resolve, reject);
    });
  return fetch;
}

class Socket {
  OPEN = 1;
  readyState = 0;
  onopen = () => {};
  onmessage = (/** @type {{data: string}} */ _message) => {};
  onclose = (/** @type {{code: number}} */ _close) => {};
  /** @type {Said[]} */
  #sent = [];
  #said;

  /** @param {(said: Said, socket: Socket) => void} said */
  constructor(said) {
    this.#said = said;
    setTimeout(() => {
      if (this.readyState !== 0) return;
      this.readyState = this.OPEN;
      this.onopen();
      this.put(HELLO);
    }, 1);
  }

  /** @param {string} text */
  send(text) {
    const said = JSON.parse(text);
    this.#sent.push(said);
    this.#said(said, this);
  }

  /** The commands of one type for one run. @param {string} type @param {string} run */
  asked(type, run) {
    return this.#sent.filter((said) => said.type === type && said.run === run);
  }

  /** Frames arrive in the order in which they are put, each in a task of its own. @param {object} frame */
  async put(frame) {
    await pause(1);
    if (this.readyState === this.OPEN) this.onmessage({ data: JSON.stringify(frame) });
  }

  /** @param {Said | undefined} said @param {object} [more] */
  reply(said, more = {}) {
    return this.put({ type: "reply", ref: said?.ref, ok: true, resume: "start", ...more });
  }

  close(code = 1000) {
    this.readyState = 3;
    setTimeout(() => this.onclose({ code }));
  }
}

/** A WebSocket class, and those that were opened. @param {(said: Said, socket: Socket) => void} said */
export function scripted(said) {
  /** @type {Socket[]} */
  const sockets = [];
  class Scripted extends Socket {
    constructor() {
      super(said);
      sockets.push(this);
    }
  }
  return { sockets, WebSocket: /** @type {typeof globalThis.WebSocket} */ (/** @type {unknown} */ (Scripted)) };
}

/** @typedef {{begin: () => void, lose: () => void, granted: boolean}} Holder */

class Locks {
  /** Called when a lock is to be stolen, before it is. */
  stealing = () => {};
  /** @type {Map<string, Holder>} */
  #held = new Map();
  /** @type {Map<string, Holder[]>} */
  #queues = new Map();

  /** Another tab has it. @param {string} name */
  elsewhere(name) {
    this.#grant(name, { begin: () => {}, lose: () => {}, granted: true });
  }

  /** Whoever has it goes; whoever has it then is told in a later task. @param {string} name */
  release(name) {
    this.#held.delete(name);
    const next = this.#queues.get(name)?.shift();
    if (next) this.#grant(name, next);
  }

  /** How many wait for it. @param {string} name */
  waiting(name) {
    return this.#queues.get(name)?.length ?? 0;
  }

  /** @param {string} name @param {{signal?: AbortSignal, steal?: boolean}} options @param {() => unknown} callback */
  request(name, { signal, steal = false }, callback) {
    return new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason);
      const run = async () => {
        const value = await callback();
        if (this.#held.get(name) === one) this.release(name);
        resolve(value);
      };
      // Who lost it may be told after who got it.
      const lose = () => void setTimeout(reject, 5, new Error("stolen"));
      /** @type {Holder} */
      const one = { begin: () => void setTimeout(run), lose, granted: false };
      signal?.addEventListener("abort", () => {
        if (one.granted) return;
        this.#queues.set(name, (this.#queues.get(name) ?? []).filter((other) => other !== one));
        reject(signal.reason);
      });
      if (steal) {
        this.stealing();
        setTimeout(() => {
          this.#held.get(name)?.lose();
          this.#grant(name, one);
        });
      } else if (this.#held.has(name)) this.#queues.set(name, [...(this.#queues.get(name) ?? []), one]);
      else this.#grant(name, one);
    });
  }

  /** @param {string} name @param {Holder} one */
  #grant(name, one) {
    this.#held.set(name, one);
    one.granted = true;
    one.begin();
  }
}

/** This process becomes a browser's tab: `locks` are its locks; `channel` opens what another tab would. */
export function browser() {
  const locks = new Locks();
  /** @type {Set<Channel>} */
  const channels = new Set();
  class Channel {
    onmessage = (/** @type {{data: Word}} */ _message) => {};

    /** @param {string} name */
    constructor(name) {
      this.name = name;
      channels.add(this);
    }

    /** @param {Word} word */
    postMessage(word) {
      const data = structuredClone(word);
      for (const other of channels) {
        if (other === this || other.name !== this.name) continue;
        setTimeout(() => channels.has(other) && other.onmessage({ data }));
      }
    }

    close() {
      channels.delete(this);
    }
  }
  const globals = { navigator: { locks }, BroadcastChannel: Channel, document: { hidden: false } };
  for (const [name, value] of Object.entries(globals)) {
    Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });
  }
  return { locks, channel: (/** @type {string} */ name) => new Channel(name) };
}
