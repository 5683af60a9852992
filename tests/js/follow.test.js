// Against a real server on a real socket; the server plays one script for each connection.

import assert from "node:assert/strict";
import { test } from "node:test";
import { createApi, Problem } from "../../clients/js/api.js";
import { follow } from "../../clients/js/follow.js";
import { serving } from "./serving.js";

/** @typedef {import("node:http").IncomingMessage} Request */
/** @typedef {import("node:http").ServerResponse} Response */
/** @typedef {(response: Response, request: Request) => void} Script */

const HELLO = { type: "hello", connection: "c", version: 1, heartbeat_ms: 1000, retry_ms: 1, resume: "start" };

/** @param {number} offset @param {string} [type] @param {string} [epoch] */
const event = (offset, type = "x.n", epoch = "a") => ({ type, run: "r", id: `${epoch}-${offset}`, ts: offset });

/** @param {...object} frames @returns {Script} */
const stream = (...frames) => (response) => {
  response.writeHead(200, { "Content-Type": "text/event-stream; charset=utf-8" });
  for (const frame of [HELLO, ...frames]) response.write(`data: ${JSON.stringify(frame)}\n\n`);
  response.end();
};

/** @param {number} status @param {object} [body] @returns {Script} */
const answer = (status, body) => (response) => {
  response.writeHead(status, { "Content-Type": "application/json" });
  response.end(body && JSON.stringify(body));
};

/**
 * Serve the scripts, one for each request, and run `use` with the address and what was asked for.
 * @param {Script[]} scripts
 * @param {(base: string, asked: Request[]) => Promise<void>} use
 */
async function playing(scripts, use) {
  /** @type {Request[]} */
  const asked = [];
  await serving((response, request) => {
    asked.push(request);
    (scripts[asked.length - 1] ?? answer(500))(response, request);
  }, (base) => use(base, asked));
}

/**
 * Follow to the end; what came, what was asked.
 * @param {Script[]} scripts
 * @param {Partial<import("../../clients/js/follow.js").Options>} [options]
 */
async function followed(scripts, options = {}) {
  /** @type {string[]} */
  const ids = [];
  /** @type {boolean[]} */
  const refreshes = [];
  /** @type {string[]} */
  const statuses = [];
  let reason = "";
  /** @type {string[]} */
  let urls = [];
  await playing(scripts, async (base, asked) => {
    reason = await follow({
      base,
      run: "r",
      getToken: async ({ refresh }) => (refreshes.push(refresh), "t"),
      onEvent: ({ id }) => ids.push(id),
      onConnection: ({ status }) => statuses.push(status),
      transports: ["sse"],
      ...options,
    }).closed;
    urls = asked.map((request) => request.url ?? "");
    assert.ok(asked.every((request) => request.headers.authorization === "Bearer t"));
  });
  return { ids, refreshes, reason, urls, statuses };
}

test("events are given in order until the terminal one", async () => {
  const { ids, reason, statuses } = await followed([stream(event(1), event(2), event(3, "run.completed"))]);
  assert.deepEqual(ids, ["a-1", "a-2", "a-3"]);
  assert.equal(reason, "terminal");
  assert.deepEqual(statuses, ["connecting", "connected", "disconnected"]);
});

test("after a break it joins where it was, and drops what comes twice", async () => {
  const { ids, urls } = await followed([
    stream(event(1), event(2)),
    stream(event(2), event(3), event(4, "run.failed")),
  ]);
  assert.deepEqual(ids, ["a-1", "a-2", "a-3", "a-4"]);
  assert.match(urls[1] ?? "", /[?&]after=a-2(&|$)/);
});

test("an event of another epoch is taken only after a gap", async () => {
  const gap = { type: "gap", run: "r", after: "a-1", from: "b-1" };
  let gaps = 0;
  const { ids } = await followed(
    [stream(event(1), event(1, "x.n", "b"), gap, event(1, "x.n", "b"), event(2, "run.completed", "b"))],
    { onGap: async () => (gaps++, null) },
  );
  assert.deepEqual(ids, ["a-1", "b-1", "b-2"]);
  assert.equal(gaps, 1);
});

test("after a gap nothing is given that the state which was read already has", async () => {
  const gap = { type: "gap", run: "r", after: "a-1", from: "b-1" };
  const { ids } = await followed(
    [stream(gap, event(1, "x.n", "b"), event(2, "x.n", "b"), event(3, "run.completed", "b"))],
    { after: "a-1", onGap: async () => "b-2" },
  );
  assert.deepEqual(ids, ["b-3"]);
});

test("204 ends it", async () => {
  assert.equal((await followed([answer(204)], { after: "a-3" })).reason, "terminal");
});

test("a 401 asks for a fresh token once", async () => {
  const { refreshes, reason } = await followed([answer(401), answer(401)]);
  assert.deepEqual(refreshes, [false, true]);
  assert.equal(reason, "unauthorized");
});

test("a token that runs out mid-stream is fetched anew", async () => {
  const expiring = { type: "auth.expiring", expires_at: 1 };
  const { refreshes, reason } = await followed([stream(event(1), expiring), stream(event(2, "run.completed"))]);
  assert.deepEqual(refreshes, [false, true]);
  assert.equal(reason, "terminal");
});

test("404 is final", async () => {
  assert.equal((await followed([answer(404, { code: "run.not_found" })])).reason, "not_found");
});

test("a 404 in other words than the gateway's speaks of the way, and the next one is tried", async () => {
  const page = { events: [event(1, "run.completed")], cursor: "a-1", resume: "start", done: true };
  const { reason } = await followed([answer(404), answer(200, { ...page, retry_ms: 1, heartbeat_ms: 1 })], {
    transports: ["sse", "poll"],
  });
  assert.equal(reason, "terminal");
});

test("what is not an event stream makes it fall back to long-poll, which ends the run too", async () => {
  const page = { resume: "start", done: false, retry_ms: 1, heartbeat_ms: 1000 };
  const { ids, urls, reason } = await followed(
    [
      answer(200, {}),
      answer(200, { ...page, events: [event(1)], cursor: "a-3" }),
      answer(200, { ...page, events: [event(4, "run.completed")], cursor: "a-4", done: true }),
    ],
    { transports: ["sse", "websocket", "poll"], WebSocket: /** @type {any} */ (undefined) },
  );
  assert.deepEqual(ids, ["a-1", "a-4"]);
  assert.match(urls[1] ?? "", /wait=0/);
  assert.match(urls[2] ?? "", /wait=25&after=a-3/);
  assert.equal(reason, "terminal");
});

test("what worked is remembered by the caller", async () => {
  const memory = {};
  await followed(
    [answer(406), answer(200, { events: [], cursor: "0", resume: "start", done: true, retry_ms: 1, heartbeat_ms: 1 })],
    { transports: ["sse", "poll"], memory },
  );
  assert.equal(typeof (/** @type {any} */ (memory).fell_back_at), "number");
});

test("silence longer than two and a half heartbeats is a dead connection", async () => {
  const { ids, reason } = await followed([
    (response) => {
      response.writeHead(200, { "Content-Type": "text/event-stream" });
      response.write(`data: ${JSON.stringify({ ...HELLO, heartbeat_ms: 20 })}\n\n`);
      response.write(`data: ${JSON.stringify(event(1))}\n\n`);
    },
    stream(event(2, "run.completed")),
  ]);
  assert.deepEqual(ids, ["a-1", "a-2"]);
  assert.equal(reason, "terminal");
});

test("failures in a row end it", async () => {
  assert.equal((await followed([answer(503), answer(503)], { max_retries: 2 })).reason, "exhausted");
});

test("the caller can end it at any time", async () => {
  const ending = new AbortController();
  const { reason, ids } = await followed([stream(event(1), event(2))], {
    signal: ending.signal,
    onEvent: () => ending.abort(),
  });
  assert.equal(reason, "aborted");
  assert.deepEqual(ids, []);
});

test("what a callback throws comes out", async () => {
  await assert.rejects(
    followed([stream(event(1))], { onEvent: () => assert.fail("mine") }),
    /mine/,
  );
});

test("a refusal is a Problem with the gateway's words", async () => {
  const errors = [{ path: ["input", "topic"], message: "is missing" }];
  const document = { title: "No", code: "input.invalid", detail: "topic is missing", retryable: false, errors };
  await playing([answer(422, document)], async (base) => {
    const call = createApi({ base, getToken: async () => "t" });
    await assert.rejects(call("POST", "/runs", { body: {} }), (error) => {
      assert.ok(error instanceof Problem);
      assert.deepEqual([error.code, error.status, error.message], ["input.invalid", 422, "topic is missing"]);
      assert.deepEqual(error.errors, errors);
      return true;
    });
  });
});

test("a gateway that is not there is a retryable Problem", async () => {
  let address = "";
  await playing([], async (base) => void (address = base));
  const call = createApi({ base: address, getToken: async () => null });
  await assert.rejects(call("GET", "/runs"), { code: "network", retryable: true });
});
