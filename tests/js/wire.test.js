// One connection, as clients/conformance/wire.json has it: what is asked for, what is taken, what it comes to.

import assert from "node:assert/strict";
import { test } from "node:test";
import { OPEN } from "../../clients/js/transports.js";
import { casesOf } from "./conformance.js";

/** A WebSocket that plays a case: opens, answers once the client has said its commands, closes. @param {any} played */
function socketOf({ opens = true, frames, close }) {
  return class {
    /** @type {any[]} */
    static said = [];
    OPEN = 1;
    readyState = 0;
    onopen = () => {};
    onerror = () => {};
    onclose = (/** @type {any} */ _event) => {};
    onmessage = (/** @type {any} */ _event) => {};

    constructor() {
      queueMicrotask(() => this.#play());
    }

    async #play() {
      if (opens) {
        this.readyState = 1;
        this.onopen();
      }
      const { said } = /** @type {any} */ (this.constructor);
      for (const frame of frames) {
        const data =
          frame.type === "reply" ? { ...frame, ref: said[frame.ref].ref } : frame;
        this.onmessage({ data: typeof data === "string" ? data : JSON.stringify(data) });
        await new Promise((resolve) => setImmediate(resolve));
      }
      this.readyState = 3;
      this.onclose({ code: close });
    }

    /** @param {string} text */
    send(text) {
      /** @type {any} */ (this.constructor).said.push(JSON.parse(text));
    }

    close() {
      this.readyState = 3;
    }
  };
}

/** A fetch that answers a case's requests in their order, and remembers what was asked. @param {any[]} requests */
function fetchOf(requests) {
  /** @type {any[]} */
  const asked = [];
  /** @type {any} */
  const fetch = async (/** @type {string} */ address, /** @type {any} */ { method, headers }) => {
    const url = new URL(address, "http://gateway");
    asked.push({ method, path: url.pathname, query: [...url.searchParams].sort(), headers });
    const { status, body = null, headers: answered } = requests[asked.length - 1].answer;
    return new Response(method === "HEAD" || status === 204 ? null : body, { status, headers: answered });
  };
  return { fetch, asked };
}

/** @param {any} outcome Null says the same as nothing. */
const plain = (outcome) => Object.fromEntries(Object.entries(outcome).filter(([, value]) => value !== null));

for (const { name, transport, joins, token, requests = [], says = [], outcome, takes, gone = [], ...played } of casesOf("wire")) {
  test(name, async () => {
    const { fetch, asked } = fetchOf(requests);
    const WebSocket = socketOf({ frames: [], ...played });
    /** @type {string[]} */
    const taken = [];
    /** @type {string[]} */
    const missing = [];
    const open = OPEN[/** @type {"sse"} */ (transport)];
    const seen = await open({
      base: "http://gateway",
      joins,
      replay: "folded",
      token,
      wait_s: 0,
      signal: new AbortController().signal,
      deliver: ({ type }) => void taken.push(type),
      gone: (run) => void missing.push(run),
      refused: () => {},
      controls: () => {},
      fetch,
      WebSocket: /** @type {any} */ (WebSocket),
    });
    assert.deepEqual(plain(seen), outcome);
    assert.deepEqual(taken, takes);
    assert.deepEqual(missing, gone);
    assert.deepEqual(
      WebSocket.said.map(({ ref: _, ...command }) => command),
      says,
    );
    const lower = (/** @type {any} */ headers) =>
      Object.fromEntries(Object.entries(headers).map(([key, value]) => [key.toLowerCase(), value]));
    assert.deepEqual(
      asked.map((one) => ({ ...one, headers: lower(one.headers) })),
      requests.map((/** @type {any} */ { asks }) => ({ ...asks, query: asks.query.sort() })),
    );
  });
}
