// Against a real server on a real socket; the server plays one script for each connection.

import assert from "node:assert/strict";
import { test } from "node:test";
import { createApi, Problem } from "../../clients/js/api.js";
import { Client } from "../../clients/js/index.js";
import { Connection } from "../../clients/js/connection.js";
import { serving } from "./serving.js";

/** @typedef {import("node:http").IncomingMessage} Request */
/** @typedef {import("node:http").ServerResponse} Response */
/** @typedef {(response: Response, request: Request) => void} Script */

const HELLO = { type: "hello", connection: "c", version: 1, heartbeat_ms: 1000, retry_ms: 1, resume: "start" };

/** @param {number} offset @param {string} [type] @param {string} [epoch] */
const event = (offset, type = "x.n", epoch = "a") => ({ type, run: "r", id: `${epoch}-${offset}`, ts: offset });

/** A stream that stays open. @param {...object} frames @returns {Script} */
const open = (...frames) => (response) => {
  response.writeHead(200, { "Content-Type": "text/event-stream; charset=utf-8" });
  for (const frame of [HELLO, ...frames]) response.write(`data: ${JSON.stringify(frame)}\n\n`);
};

/** @param {...object} frames @returns {Script} */
const stream = (...frames) => (response, request) => {
  open(...frames)(response, request);
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

/** @typedef {Partial<import("../../clients/js/connection.js").ConnectionOptions> & {after?: string, gap?: () => string | null,
 *   event?: (leave: () => void) => void}} Options */

/**
 * Follow to the end; what came, what was asked. `gap` gives the cursor to go on from, `event` is called at each one.
 * @param {Script[]} scripts
 * @param {Options} [options]
 */
async function followed(scripts, { after, gap = () => null, event: onEvent, ...options } = {}) {
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
    const connection = new Connection({
      base,
      getToken: async ({ refresh }) => (refreshes.push(refresh), "t"),
      transports: ["sse"],
      ...options,
    });
    reason = await new Promise((resolve) => {
      /** @type {import("../../clients/js/connection.js").Subscription} */
      const subscription = {
        run: "r",
        cursor: after ?? null,
        event({ id }) {
          ids.push(id);
          onEvent?.(() => {
            connection.leave(subscription);
            resolve("left");
          });
        },
        gap: () => void (subscription.cursor = gap()),
        link({ status, reason: why }) {
          if (statuses.at(-1) !== status) statuses.push(status);
          if (why) resolve(why);
        },
      };
      connection.join(subscription);
    });
    urls = asked.map((request) => request.url ?? "");
    assert.ok(asked.every((request) => request.headers.authorization === "Bearer t"));
    while (connection.connections.length) await new Promise((resolve) => setTimeout(resolve, 5));
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
    { gap: () => (gaps++, null) },
  );
  assert.deepEqual(ids, ["a-1", "b-1", "b-2"]);
  assert.equal(gaps, 1);
});

test("after a gap nothing is given that the state which was read already has", async () => {
  const gap = { type: "gap", run: "r", after: "a-1", from: "b-1" };
  const { ids } = await followed(
    [stream(gap, event(1, "x.n", "b"), event(2, "x.n", "b"), event(3, "run.completed", "b"))],
    { after: "a-1", gap: () => "b-2" },
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
    open({ ...HELLO, heartbeat_ms: 20 }, event(1)),
    stream(event(2, "run.completed")),
  ]);
  assert.deepEqual(ids, ["a-1", "a-2"]);
  assert.equal(reason, "terminal");
});

test("failures in a row end it", async () => {
  assert.equal((await followed([answer(503), answer(503)], { maxRetries: 2 })).reason, "exhausted");
});

test("whoever leaves closes what nobody else uses", async () => {
  const { reason, ids } = await followed([open(event(1))], { event: (leave) => leave() });
  assert.equal(reason, "left");
  assert.deepEqual(ids, ["a-1"]);
});

/** `over`: the ids up to one of them. @param {Connection} connection @param {string} until */
function joined(connection, until) {
  /** @type {string[]} */
  const ids = [];
  /** @type {import("../../clients/js/connection.js").Subscription} */
  let subscription;
  const over = new Promise((resolve) => {
    subscription = {
      run: "r",
      cursor: null,
      event: ({ id }) => void (ids.push(id), id === until && resolve(ids)),
      gap: () => {},
      link: () => {},
    };
    connection.join(subscription);
  });
  return { over, leave: () => connection.leave(subscription) };
}

for (const amid of [true, false]) {
  const when = amid ? "amid a stream" : "before it began";
  test(`a run that is left and joined anew at once is given from where the new one is: ${when}`, { timeout: 20_000 }, async () => {
    const scripts = amid ? [open(event(1), event(2))] : [];
    await playing([...scripts, stream(event(1), event(2), event(3, "run.completed"))], async (base) => {
      const connection = new Connection({ base, getToken: async () => "t", transports: ["sse"] });
      const first = joined(connection, "a-2");
      if (amid) await first.over;
      first.leave();
      assert.deepEqual(await joined(connection, "a-3").over, ["a-1", "a-2", "a-3"]);
    });
  });
}

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

test("what is read and not answered, or in part only, is given up; what is sent is waited for", async (context) => {
  /** @type {(() => void)[]} */
  const timers = [];
  context.mock.method(globalThis, "setTimeout", (/** @type {() => void} */ run) => timers.push(run));
  const turns = () => new Promise((resolve) => setImmediate(resolve));
  /** @type {(_: unknown, asked?: RequestInit) => Promise<any>} */
  const silent = (_, asked) => new Promise((_, reject) => asked?.signal?.addEventListener("abort", () => reject(asked.signal?.reason)));
  /** @type {typeof silent} */
  const half = async (_, asked) => ({ ok: true, json: () => silent(_, asked) });
  for (const fetch of [silent, half]) {
    const call = createApi({ fetch, getToken: async () => null });
    for (const signal of [undefined, new AbortController().signal]) {
      const read = assert.rejects(call("GET", "/runs", { signal }), { code: "network", retryable: true });
      await turns();
      timers.pop()?.();
      await read;
    }
    const leaving = new AbortController();
    const sent = assert.rejects(call("POST", "/run", { signal: leaving.signal }), { name: "AbortError" });
    const read = assert.rejects(call("GET", "/runs", { signal: leaving.signal }), { name: "AbortError" });
    await turns();
    leaving.abort();
    await Promise.all([sent, read]);
    assert.equal(timers.length, 1, "of the read that was left; what is sent has none");
    timers.length = 0;
  }
});

test("what may be tried again is, a few times and not for long", async () => {
  const busy = (/** @type {number} */ retry_after_ms) => answer(503, { code: "server.busy", title: "busy", retryable: true, retry_after_ms });
  await playing([busy(1), busy(1), answer(200, { id: "r" })], async (url, asked) => {
    assert.equal((await new Client({ url }).start("p", {})).id, "r");
    assert.equal(new Set(asked.map(({ headers }) => headers["idempotency-key"])).size, 1);
  });
  await playing([busy(1), busy(1), busy(1)], async (url) => {
    await assert.rejects(new Client({ url }).start("p", {}), { code: "server.busy" });
  });
  await playing([busy(60_000)], async (url) => {
    await assert.rejects(new Client({ url }).start("p", {}), { code: "server.busy", retry_after_ms: 60_000 });
  });
});

test("a state that cannot be read after a gap holds nothing up: it is begun anew", async () => {
  const gap = { type: "gap", run: "r", after: "0", from: "a-5" };
  /** @type {string[]} */
  const asked = [];
  await serving((response, request) => {
    asked.push(request.url ?? "");
    if (request.url === "/runs/r") {
      // The first one never answers.
      if (asked.filter((url) => url === "/runs/r").length > 1) answer(200, { id: "r", status: "running", tail: "a-5" })(response, request);
      return;
    }
    response.writeHead(200, { "Content-Type": "text/event-stream" });
    const frames = [{ ...HELLO, heartbeat_ms: 20 }, gap, event(5), event(6, "run.completed")];
    for (const frame of frames) response.write(`data: ${JSON.stringify(frame)}\n\n`);
  }, async (url) => {
    const run = new Client({ url, transports: ["sse"] }).run("r");
    /** @type {string[]} */
    const seen = [];
    for await (const { type, id } of run.events()) seen.push(id ?? type);
    assert.deepEqual(seen, ["gap", "gap", "a-5", "a-6"]);
    assert.equal(run.state.status, "completed");
  });
});

test("what has given up goes on where it was when it is told to", async () => {
  const busy = answer(503, { code: "server.busy", title: "busy", retryable: true });
  await playing([stream(event(1)), busy, busy, stream(event(2), event(3, "run.completed"))], async (url, asked) => {
    const client = new Client({ url, transports: ["sse"], maxRetries: 2 });
    const run = client.run("r");
    const stop = run.subscribe(() => {});
    await assert.rejects(run.finished(), { code: "server.busy" });
    assert.deepEqual([run.connection.status, run.connection.reason], ["error", "exhausted"]);
    assert.equal(client.connections.length, 0);
    const end = new Promise((resolve) => run.on("run.completed", resolve));
    client.reconnect();
    await end;
    assert.equal(run.state.tail, "a-3");
    assert.match(asked[3]?.url ?? "", /after=a-1/);
    stop();
  });
});
