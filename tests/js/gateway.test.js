// The client against a real gateway: everything that an application does, and what breaks meanwhile. One file, however
// long, because all of it shares one gateway.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { connect, createServer } from "node:net";
import { after, before, test } from "node:test";
import { WebSocket } from "ws";
import { Client } from "../../clients/js/index.js";
import { Gateway, token } from "./gateway.js";
import { seeded } from "./seeded.js";

/** @typedef {import("../../clients/js/run.js").Run} Run */
/** @typedef {import("../../clients/js/client.js").ClientOptions} ClientOptions */

const gateway = new Gateway({ retry_ms: 20 });
before(() => gateway.start());
after(() => gateway.erase());

const sockets = /** @type {typeof globalThis.WebSocket} */ (/** @type {unknown} */ (WebSocket));
/** @type {Record<string, ClientOptions>} */
const WAYS = {
  "SSE": { transports: ["sse"] },
  "WebSocket": { transports: ["websocket"], WebSocket: sockets },
  "long-poll": { transports: ["poll"] },
};

/** @param {ClientOptions} [options] @param {{url: string}} [at] */
const clientOf = (options, at = gateway) => new Client({ url: at.url, getToken: () => token(), ...options });

/** @param {() => unknown} ask Until it is true; the runner's own limit ends it. */
async function eventually(ask) {
  while (!(await ask())) await new Promise((resolve) => setTimeout(resolve, 10));
}

/** @param {Run} run @param {{signal?: AbortSignal, after?: string}} [options] */
async function idsOf(run, options) {
  const ids = [];
  for await (const event of run.events(options)) ids.push(event.id);
  return ids;
}

/** Every cursor of a run that ended at this one. @param {string} last */
function upTo(last) {
  const [epoch, offset] = last.split("-");
  return Array.from({ length: Number(offset) }, (_, index) => `${epoch}-${index + 1}`);
}

/** @param {Client} client @param {Run} run @param {number} from @param {number} count */
function publish(client, run, from, count) {
  const events = Array.from({ length: count }, (_, index) => ({ type: "x.n", n: from + index }));
  return client.call("POST", `/runs/${run.id}/events`, { body: { events } });
}

/** @param {Client} client @param {Run} run */
const finish = (client, run) =>
  client.call("POST", `/runs/${run.id}/finish`, { body: { status: "completed", result: { n: 1 } } });

/** A run whose events come by `publish`. @param {Client} client */
async function external(client) {
  const run = await client.start("external", {});
  await eventually(async () => (await client.call("GET", `/runs/${run.id}`)).status === "running");
  return run;
}

for (const [way, options] of Object.entries(WAYS)) {
  test(`over ${way} a run is followed to its end, event by event`, { timeout: 30_000 }, async () => {
    const client = clientOf({ ...options, replay: "full" });
    const run = await client.start("words", { count: 20, gap_s: 0.01 });
    assert.deepEqual(await idsOf(run), upTo(run.state.tail ?? ""));
    const { status, progress, result, blocks, stages } = run.state;
    assert.deepEqual([status, progress, result], ["completed", 95, { words: 20 }]);
    assert.deepEqual(blocks, { body: Array.from({ length: 20 }, (_, n) => `word${n} `).join("") });
    assert.deepEqual(stages, [{ stage: "writer", index: 1, of: 1, done: true }]);
    const { stages: _, inputs: __, ...told } = run.state;
    assert.deepEqual(told, { ...told, ...(await client.call("GET", `/runs/${run.id}`)) });
    await eventually(() => client.connections.length === 0);
    assert.equal(client.status, "disconnected");
  });

  test(`over ${way} a token that is no good is asked for once more, and that is the end`, { timeout: 30_000 }, async () => {
    const run = await clientOf().start("forever", {});
    /** @type {boolean[]} */
    const asked = [];
    const client = clientOf({ ...options, getToken: ({ refresh }) => (asked.push(refresh), "no token") });
    const followed = client.run(run.id);
    await assert.rejects(followed.finished(), { code: "auth.invalid" });
    assert.deepEqual(asked, [false, true]);
    assert.equal(followed.connection.reason, "unauthorized");
    await run.cancel();
  });

  test(`over ${way} a cancel is acknowledged and takes effect`, { timeout: 30_000 }, async () => {
    /** @type {string[]} */
    const asked = [];
    const client = clientOf({ ...options, fetch: (address, init) => (asked.push(`${address}`), fetch(address, init)) });
    const run = await client.start("forever", {});
    /** @type {import("../../clients/js/run.js").RunEvent[]} */
    const cancelling = [];
    run.on("run.cancelling", (event) => cancelling.push(event));
    await eventually(() => run.connection.status === "connected" && run.state.blocks["body"]);
    assert.equal(await run.cancel("enough"), "cancelling");
    assert.equal(asked.some((url) => url.endsWith("/cancel")), way !== "WebSocket");
    assert.equal((await run.finished()).status, "cancelled");
    assert.equal(cancelling[0]?.["reason"], "enough");
    assert.equal(await run.cancel(), "cancelled");
  });

  test(`over ${way} runs come and go on one connection, and none loses or repeats`, { timeout: 60_000 }, async () => {
    const client = clientOf({ ...options, replay: "full" });
    const random = seeded(7);
    let most = 0;
    const stop = client.subscribe(() => void (most = Math.max(most, client.connections.length)));
    const one = async () => {
      await new Promise((resolve) => setTimeout(resolve, random() * 1500));
      const run = await client.start("words", { count: 15, gap_s: 0.02 * random() });
      const ids = await idsOf(run);
      assert.deepEqual(ids, upTo(run.state.tail ?? ""));
      assert.equal(run.state.status, "completed");
    };
    await Promise.all(Array.from({ length: 24 }, one));
    stop();
    assert.equal(most, 1);
    await eventually(() => client.connections.length === 0);
  });
}

test("a token that expires mid-run is renewed and nothing is lost, over each way", { timeout: 60_000 }, async () => {
  const short = await new Gateway({ auth_warning_s: 3 }).start();
  let opened = 0;
  class Counted extends WebSocket {
    /** @param {ConstructorParameters<typeof WebSocket>} given */
    constructor(...given) {
      super(...given);
      opened++;
    }
  }
  /** @param {ClientOptions} options */
  const follows = async (options) => {
    let asked = 0;
    let current = token({ ttl_s: 5 });
    const getToken = async (/** @type {{refresh: boolean}} */ { refresh }) => {
      asked += Number(refresh);
      return refresh ? (current = token({ ttl_s: 5 })) : current;
    };
    const client = clientOf({ ...options, WebSocket: /** @type {any} */ (Counted), replay: "full", getToken }, short);
    const run = await client.start("words", { count: 30, gap_s: 0.2 });
    assert.deepEqual(await idsOf(run), upTo(run.state.tail ?? ""));
    assert.ok(asked >= 1);
  };
  try {
    await Promise.all(Object.values(WAYS).map(follows));
    assert.equal(opened, 1, "a WebSocket is renewed as it is");
  } finally {
    await short.erase();
  }
});

test("a gateway that is killed and comes back costs nothing, over each way", { timeout: 60_000 }, async () => {
  const mortal = await new Gateway({ retry_ms: 20 }).start();
  try {
    const seen = await Promise.all(
      Object.values(WAYS).map(async (options) => {
        const client = clientOf({ ...options, retryDelay: 20, maxRetries: 1000 }, mortal);
        const run = await external(client);
        /** @type {number[]} */
        const ns = [];
        const end = (async () => {
          for await (const event of run.events()) if (event.type === "x.n") ns.push(event["n"]);
        })();
        return { client, run, ns, end };
      }),
    );
    let sent = 0;
    for (const signal of /** @type {NodeJS.Signals[]} */ (["SIGKILL", "SIGTERM"])) {
      for (const { client, run } of seen) await publish(client, run, sent, 50);
      sent += 50;
      // Some of it is perhaps on its way, some perhaps not.
      await eventually(() => seen.every(({ ns }) => ns.length >= sent - 20));
      await mortal.stop(signal);
      await mortal.start();
    }
    for (const { client, run } of seen) await publish(client, run, sent, 50);
    for (const { client, run } of seen) await finish(client, run);
    const all = Array.from({ length: sent + 50 }, (_, n) => n);
    for (const { ns, end } of seen) {
      await end;
      assert.deepEqual(ns, all);
    }
  } finally {
    await mortal.erase();
  }
});

test("more runs than one stream takes go over a WebSocket", { timeout: 60_000 }, async () => {
  const client = clientOf({ WebSocket: sockets });
  const runs = await Promise.all(Array.from({ length: 40 }, () => client.start("words", { count: 3, gap_s: 0.3 })));
  const ends = runs.map((run) => run.finished());
  await eventually(() => runs.every((run) => run.connection.status === "connected" || run.connection.reason));
  assert.ok(runs.some((run) => run.connection.transport === "websocket"));
  assert.deepEqual(new Set((await Promise.all(ends)).map(({ status }) => status)), new Set(["completed"]));
});

test("one of several that is not there does not take the others down", { timeout: 30_000 }, async () => {
  for (const options of Object.values(WAYS)) {
    const client = clientOf(options);
    const run = await client.start("words", { count: 5, gap_s: 0.05 });
    const missing = client.run("01a1fd39-0000-7097-82be-b06906252e38");
    const end = run.finished();
    await assert.rejects(missing.finished(), { code: "run.not_found" });
    assert.equal((await end).status, "completed");
  }
});

test("whoever iterates late, or slowly, misses nothing", { timeout: 60_000 }, async () => {
  const client = clientOf({ replay: "full" });
  const run = await external(client);
  const stop = run.subscribe(() => {});
  for (let from = 0; from < 1500; from += 500) await publish(client, run, from, 500);
  await eventually(() => Number(run.state.tail?.split("-")[1]) >= 1500);
  const late = idsOf(run);
  const slow = (async () => {
    const ids = [];
    for await (const event of run.events()) {
      ids.push(event.id);
      // It does not take the next one before far more than a queue holds has come.
      if (ids.length === 10) {
        for (let from = 1500; from < 6000; from += 500) await publish(client, run, from, 500);
        await eventually(() => Number(run.state.tail?.split("-")[1]) >= 6000);
        await finish(client, run);
      }
    }
    return ids;
  })();
  const all = upTo((await run.finished()).tail ?? "");
  assert.deepEqual(await late, all);
  assert.deepEqual(await slow, all);
  assert.deepEqual(await idsOf(run), all, "also when it is over");
  assert.deepEqual(await idsOf(run, { after: all[6000] }), all.slice(6001));
  stop();
});

test("an aborted iteration ends, and closes what nobody else uses", { timeout: 30_000 }, async () => {
  const client = clientOf();
  const run = await client.start("forever", {});
  const [first, second] = [new AbortController(), new AbortController()];
  const [one, other] = [idsOf(run, first), idsOf(run, second)];
  await eventually(() => run.state.blocks["body"]);
  first.abort();
  assert.ok((await one).length > 0);
  assert.equal(client.connections.length, 1);
  second.abort();
  await other;
  await eventually(() => client.connections.length === 0);
  assert.equal(run.connection.status, "disconnected");
  await assert.rejects(run.finished({ signal: first.signal }), { name: "AbortError" });
  assert.equal(await run.cancel(), "cancelling");
});

test("a listener that throws breaks nothing but its own call", { timeout: 30_000 }, async () => {
  const client = clientOf();
  const run = await client.start("words", { count: 5 });
  /** @type {unknown[]} */
  const thrown = [];
  const own = process.listeners("uncaughtException");
  process.removeAllListeners("uncaughtException");
  process.on("uncaughtException", (error) => thrown.push(error.message));
  try {
    run.on("delta", () => assert.fail("mine"));
    run.on("delta", () => assert.fail("mine"));
    assert.equal((await run.finished()).status, "completed");
    await eventually(() => thrown.length === 10);
    assert.deepEqual(new Set(thrown), new Set(["mine"]));
  } finally {
    process.removeAllListeners("uncaughtException");
    for (const listener of own) process.on("uncaughtException", listener);
  }
});

test("generate calls back for what comes, for the end and for failures", { timeout: 30_000 }, async () => {
  const client = clientOf();
  /** @type {unknown[]} */
  const said = [];
  const over = new Promise((resolve, reject) =>
    client.generate(
      { count: 3 },
      {
        pipeline: "words",
        onProgress: ({ type }) => said.push(type),
        onDelta: ({ delta }) => said.push(delta),
        onComplete: (result, { status }) => resolve([result, status]),
        onError: reject,
      },
    ),
  );
  assert.deepEqual(await over, [{ words: 3 }, "completed"]);
  assert.deepEqual(said, ["progress", "word0 ", "progress", "word1 ", "progress", "word2 "]);
  /** @param {string} pipeline @param {object} input @returns {Promise<any>} */
  const failure = (pipeline, input) =>
    new Promise((resolve) => client.generate(input, { pipeline, onError: resolve, onComplete: resolve }));
  assert.equal((await failure("words", { count: -1 })).code, "input.invalid");
  assert.equal((await failure("rejecting", {})).message, "this input makes no sense");
  assert.match((await failure("broken", {})).incident, /\w+/);
  await assert.rejects(client.generate({ count: -1 }, { pipeline: "words" }), { code: "input.invalid" });
  const cancelled = new Promise((resolve) => {
    client.generate({}, { pipeline: "forever", onError: resolve }).then((run) => run?.cancel("enough"));
  });
  assert.equal(/** @type {any} */ (await cancelled).code, "run.cancelled");
});

test("a run is paused, resumed, answered and tried again", { timeout: 30_000 }, async () => {
  const client = clientOf();
  const run = await client.start("steps", { count: 1000, gap_s: 0.01 });
  const stop = run.subscribe(() => {});
  await eventually(() => run.state.status === "running");
  await run.pause();
  await eventually(() => run.state.status === "paused");
  await run.resume();
  await eventually(() => run.state.status === "running");
  await run.cancel();
  await run.finished();
  const again = await run.retry();
  assert.notEqual(again.id, run.id);
  assert.equal(again, client.run(again.id));
  await again.cancel();
  const asking = await client.start("asking", {});
  asking.on("input.requested", ({ input_id }) => asking.input(input_id, 42));
  assert.equal((await asking.finished()).result, 42);
  const { runs } = await client.runs({ pipeline: "asking", status: "completed", limit: 1 });
  assert.deepEqual(runs.map(({ id }) => id), [asking.id]);
  stop();
});

test("the same key starts one run, also when the answer to the first request was lost", { timeout: 30_000 }, async () => {
  let lost = 0;
  const client = clientOf({
    fetch: async (address, init) => {
      const response = await fetch(address, init);
      if (init?.method === "POST" && lost++ === 0) throw new TypeError("the answer was lost");
      return response;
    },
  });
  const run = await client.start("words", { count: 1 });
  assert.equal((await client.runs({ limit: 1 })).runs[0]?.id, run.id);
  assert.equal(lost, 2);
  const [one, other] = [await client.start("words", {}, { key: "k" }), await client.start("words", {}, { key: "k" })];
  assert.equal(one, other);
});

test("connections that break anywhere lose and repeat nothing", { timeout: 60_000 }, async () => {
  const random = seeded(Number(process.env["RUNCAST_SEED"] ?? 11));
  let most = 6_000;
  // It cuts each connection after some bytes, wherever that is.
  const proxy = createServer((near) => {
    const far = connect(gateway.port, "127.0.0.1");
    let left = 300 + random() * most;
    const cut = () => (near.destroy(), far.destroy());
    near.on("error", cut).on("close", cut);
    far.on("error", cut).on("close", cut);
    near.pipe(far);
    far.on("data", (bytes) => {
      near.write(bytes.subarray(0, left));
      left -= bytes.length;
      if (left <= 0) cut();
    });
  });
  await new Promise((resolve) => proxy.listen(0, "127.0.0.1", () => resolve(null)));
  const { port } = /** @type {import("node:net").AddressInfo} */ (proxy.address());
  const starter = clientOf();
  try {
    for (const [way, options] of Object.entries(WAYS)) {
      // A page of a long-poll comes whole or not at all.
      if (way === "long-poll") most = 60_000;
      const client = clientOf({ ...options, replay: "full", maxRetries: 1000 }, { url: `http://127.0.0.1:${port}` });
      const runs = await Promise.all([1, 2, 3].map(() => starter.start("words", { count: 60, gap_s: 0.01 })));
      const seen = await Promise.all(runs.map(async ({ id }) => [client.run(id), await idsOf(client.run(id))]));
      for (const [run, ids] of seen) assert.deepEqual(ids, upTo(/** @type {Run} */ (run).state.tail ?? ""));
    }
  } finally {
    proxy.close();
  }
});

test("connecting anew at any time loses and repeats nothing", { timeout: 60_000 }, async () => {
  for (const options of Object.values(WAYS)) {
    const client = clientOf({ ...options, replay: "full" });
    const runs = await Promise.all([1, 2].map(() => client.start("words", { count: 50, gap_s: 0.01 })));
    const restless = setInterval(client.reconnect, 70);
    const seen = await Promise.all(runs.map((run) => idsOf(run)));
    clearInterval(restless);
    assert.deepEqual(seen, runs.map((run) => upTo(run.state.tail ?? "")));
  }
});

test("after closeAll the process ends by itself", { timeout: 30_000 }, async () => {
  const script = `
    import { Client } from ${JSON.stringify(new URL("../../clients/js/index.js", import.meta.url).href)};
    const client = new Client({ url: process.env.URL, getToken: process.env.TOKEN });
    const run = await client.start("forever", {});
    const iterating = (async () => { for await (const event of run.events()) if (event.type === "delta") break; })();
    run.on("*", () => {});
    run.finished().catch(({ code }) => console.log(code));
    await iterating;
    client.closeAll();
    await run.cancel();
    console.log(client.connections.length, run.connection.status);
  `;
  const env = { ...process.env, URL: gateway.url, TOKEN: token() };
  const child = spawn(process.execPath, ["--input-type=module", "-e", script], { env, stdio: ["ignore", "pipe", "inherit"] });
  let said = "";
  child.stdout.on("data", (text) => (said += text));
  assert.equal(await new Promise((resolve) => child.once("exit", resolve)), 0);
  assert.match(said, /disconnected\n/);
  assert.match(said, /connection\.closed/);
});
