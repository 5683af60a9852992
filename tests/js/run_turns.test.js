// What happens just when something else does: a run's state and iterations, while its connection comes and goes.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Client } from "../../clients/js/index.js";
import {
  answer, broken, event, gateway, GATEWAY, page, refusal, stateAt, stream, until, words, wordsAfter,
} from "./doubles.js";

const LIMIT = { timeout: 20_000 };
const GAP = { type: "gap", run: "r", after: "0", from: "a-5" };

/**
 * A run over server-sent events; nobody follows it after the test.
 * @param {import("node:test").TestContext} t
 * @param {import("./doubles.js").Answer} answered
 */
function following(t, answered) {
  const client = new Client({ url: GATEWAY, transports: ["sse"], fetch: gateway(answered), retryDelay: 1 });
  t.after(() => client.closeAll());
  return client.run("r");
}

/** @param {string} url */
const isState = (url) => url.endsWith("/runs/r");

test("an iteration that has read further than the connection has come sees nothing twice", LIMIT, async (t) => {
  /** @type {ReturnType<typeof stream>[]} */
  const streams = [];
  let ended = false;
  const run = following(t, ({ url, streamed }) => {
    if (streamed) return (streams[streams.length] = stream());
    if (!ended) return wordsAfter(url, 2);
    const rest = [words(3, 3), event(4, "run.completed")];
    return page(url.includes("after=a-3") ? rest.slice(1) : rest, "a-4");
  });
  run.subscribe(() => {});
  await until(() => streams.length === 1);
  streams[0]?.put(words(1, 1));
  await until(() => run.state.tail === "a-1");
  streams[0]?.end();
  await until(() => streams.length === 2);
  let text = "";
  const iteration = (async () => {
    for await (const { delta = "" } of run.events()) text += delta;
  })();
  await until(() => text === "1,2,");
  ended = true;
  // What the connection lacked comes folded: also the word that the iteration has.
  streams[1]?.put(words(2, 3));
  streams[1]?.put(event(4, "run.completed"));
  await iteration;
  assert.equal(text, "1,2,3,");
  assert.equal(run.state.blocks["b"], "1,2,3,");
});

test("an iteration that is slow is ended by close(), also when somebody watches again", LIMIT, async (t) => {
  const run = following(t, ({ streamed }) => (streamed ? stream(event(1), event(2)) : page([], "a-2")));
  let seen = 0;
  let ended = false;
  let goOn = () => {};
  const busy = new Promise((resolve) => (goOn = () => resolve(null)));
  (async () => {
    for await (const _ of run.events()) {
      seen++;
      await busy;
    }
    ended = true;
  })();
  await until(() => seen === 1 && run.state.tail === "a-2");
  run.close();
  run.subscribe(() => {});
  goOn();
  await until(() => ended);
});

test("a state that was read after a gap is not given again what it has a part of", LIMIT, async (t) => {
  let reads = 0;
  const run = following(t, ({ url }) => {
    if (isState(url)) return stateAt(reads++ ? 8 : 7);
    // It breaks after the gap; the next one gives the rest as one.
    return url.includes("after=a-5") ? stream(words(6, 8)) : broken(GAP, words(5, 5));
  });
  run.subscribe(() => {});
  await until(() => run.state.tail === "a-8");
  assert.equal(run.state.blocks["b"], "1,2,3,4,5,6,7,8,");
});

test("whoever waits for the end waits for the state that has it", LIMIT, async (t) => {
  let reads = 0;
  const run = following(t, ({ url }) => {
    if (isState(url)) return reads++ ? stateAt(9, "completed") : stateAt(7);
    // The end comes behind what makes the state be read anew.
    return url.includes("after=a-5") ? stream(words(6, 8), event(9, "run.completed")) : broken(GAP, words(5, 5));
  });
  const { status, tail } = await run.finished();
  assert.deepEqual([status, tail, reads], ["completed", "a-9", 2]);
});

test("an iteration is given another epoch that its connection saw no gap before", LIMIT, async (t) => {
  /** @type {string[]} */
  const seen = [];
  const gap = { ...GAP, after: "a-9", from: "b-1" };
  const anew = [event(1, "x.n", "b"), event(2, "run.completed", "b")];
  let opened = 0;
  let lost = false;
  const run = following(t, async ({ streamed }) => {
    if (!streamed) return lost ? page([gap, ...anew], "b-2") : page([event(9)], "a-9");
    // Before its first event, so the connection has no cursor that a gap would tell of.
    if (opened++) return stream(...anew);
    await until(() => seen.length);
    lost = true;
    return refusal(503, "server.busy");
  });
  for await (const { id, type } of run.events({ after: "a-8" })) seen.push(id ?? type);
  assert.deepEqual(seen, ["a-9", "gap", "b-1", "b-2"]);
});

test("an iteration of a run that is over by the state after a gap goes to the end", LIMIT, async (t) => {
  const pages = [
    [event(5), event(6)],
    [event(7), event(8), event(9, "run.completed")],
  ];
  const run = following(t, ({ url, streamed }) => {
    if (isState(url)) return answer({ id: "r", status: "completed", tail: "a-9", blocks: {} });
    if (streamed) return stream(GAP, event(5));
    return url.includes("after=a-6") ? page(pages[1] ?? [], "a-9", { done: true }) : page(pages[0] ?? [], "a-6");
  });
  let came = false;
  const stop = run.on("x.n", () => (came = true));
  await until(() => came);
  stop();
  assert.equal(run.state.status, "completed");
  /** @type {string[]} */
  const seen = [];
  for await (const { id, type } of run.events()) seen.push(id ?? type);
  assert.deepEqual(seen, ["a-5", "a-6", "a-7", "a-8", "a-9"]);
});

test("an iteration that begins while the state is read after a gap is told of the gap", LIMIT, async (t) => {
  let reading = false;
  let readable = false;
  const run = following(t, async ({ url }) => {
    if (!isState(url)) return stream(GAP, words(5, 6), event(7, "run.completed"));
    reading = true;
    await until(() => readable);
    return stateAt(7, "completed");
  });
  run.subscribe(() => {});
  await until(() => reading);
  /** @type {string[]} */
  const seen = [];
  const iteration = (async () => {
    for await (const { id, type } of run.events()) seen.push(id ?? type);
  })();
  readable = true;
  await iteration;
  assert.deepEqual(seen, ["gap", "a-6", "a-7"]);
});

test("a state that was read after a gap is void when the log was lost once more", LIMIT, async (t) => {
  let opened = 0;
  const run = following(t, ({ url }) => {
    if (isState(url)) return stateAt(7);
    // It breaks when the state was read; the client has no cursor, so nothing tells it of the other epoch.
    return opened++ ? stream({ ...words(1, 2), id: "b-2" }) : broken(GAP);
  });
  run.subscribe(() => {});
  await until(() => run.state.tail === "b-2");
  assert.equal(run.state.blocks["b"], "1,2,");
});
