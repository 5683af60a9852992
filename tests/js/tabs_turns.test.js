// What happens just when something else does: tabs that share a connection, while they come, go, hang and lead.

import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { Client } from "../../clients/js/index.js";
import { Leader } from "../../clients/js/leader.js";
import { tabs } from "../../clients/js/tabs.js";
import {
  browser, event, gateway, GATEWAY, page, refusal, stateAt, stream, until, words, wordsAfter,
} from "./doubles.js";

/** @typedef {import("../../clients/js/leader.js").Word} Word */

const LIMIT = { timeout: 20_000 };
const NAME = `shared ${GATEWAY} folded`;
const LEADER = `${NAME} leader`;

/**
 * A tab beside another one that leads: `say` is what that one says, `heard` what it hears.
 * @param {import("node:test").TestContext} t
 * @param {import("./doubles.js").Answer} answered
 * @param {{patience?: number}} [options]
 */
function beside(t, answered, options) {
  const { locks, channel } = browser();
  locks.elsewhere(LEADER);
  const other = channel(NAME);
  /** @type {Word[]} */
  const heard = [];
  other.onmessage = ({ data }) => void heard.push(data);
  const share = tabs("shared", options);
  const client = new Client({ url: GATEWAY, transports: ["sse"], fetch: gateway(answered), share });
  t.after(() => client.closeAll());
  return { client, run: client.run("r"), locks, heard, say: (/** @type {Word} */ word) => other.postMessage(word) };
}

test("a run that is left while its past is read is given it when it is joined again", LIMIT, async (t) => {
  const past = [event(1), event(2), event(3)];
  let asked = 0;
  let readable = false;
  const { run, say } = beside(t, async ({ url }) => {
    asked++;
    await until(() => readable);
    return page(url.includes("after=a-3") ? [] : past, "a-3");
  });
  /** @type {string[]} */
  const seen = [];
  const listener = (/** @type {{id: string}} */ { id }) => void seen.push(id);
  const stop = run.on("x.n", listener);
  say({ type: "at", run: "r", at: "a-3" });
  await until(() => asked);
  stop();
  readable = true;
  // The answer comes, and is nobody's.
  await pause(50);
  assert.deepEqual(seen, []);
  run.on("x.n", listener);
  say({ type: "at", run: "r", at: "a-3" });
  await until(() => seen.length === 3);
  assert.deepEqual(seen, ["a-1", "a-2", "a-3"]);
});

test("an event that a tab has a part of is not given to it", LIMIT, async (t) => {
  let last = 2;
  const { run, say } = beside(t, ({ url }) => wordsAfter(url, last));
  run.subscribe(() => {});
  say({ type: "at", run: "r", at: "a-2" });
  await until(() => run.state.tail === "a-2");
  // A new leader began where a tab was that had come less far: it is given what follows as one.
  last = 4;
  say({ type: "event", run: "r", prev: "a-1", event: words(2, 4) });
  await until(() => run.state.tail === "a-4");
  assert.equal(run.state.blocks["b"], "1,2,3,4,");
});

test("a leader that has ended begins nothing when it hears late that a tab went", LIMIT, async () => {
  const { locks } = browser();
  /** @type {string[]} */
  const joined = [];
  const own = {
    connections: [],
    join: (/** @type {{run: string}} */ { run }) => void joined.push(run),
    leave() {},
    command: async () => null,
    wake() {},
  };
  const leader = new Leader("shared", { changed() {}, tell() {}, own: () => own });
  for (const [tab, run] of /** @type {const} */ ([["one", "p"], ["two", "q"]])) {
    locks.elsewhere(`shared ${tab}`);
    leader.want(tab, [[run, null]]);
  }
  assert.deepEqual(joined, ["p", "q"]);
  await until(() => locks.waiting("shared one"));
  // Its lock is granted before the end, which comes before the leader is told.
  locks.release("shared one");
  leader.end();
  await pause(50);
  assert.deepEqual(joined, ["p", "q"]);
});

test("a tab that steals the lead from itself leads, over one connection", LIMIT, async (t) => {
  /** @type {Map<string, ReturnType<typeof stream>>} */
  const open = new Map();
  let over = false;
  const { client, run, locks } = beside(
    t,
    ({ url, signal }) => {
      if (over) return refusal(403, "auth.forbidden");
      const response = stream();
      open.set(url, response);
      signal?.addEventListener("abort", () => open.get(url) === response && open.delete(url));
      return response;
    },
    { patience: 400 },
  );
  // Whatever leads unknown to the client would otherwise go on after the test.
  t.after(() => {
    over = true;
    for (const response of open.values()) response.end();
  });
  let stolen = 0;
  // The tab that leads dies just when it has been silent for too long: this one waits for the lock and steals it.
  locks.stealing = () => {
    if (!stolen++) locks.release(LEADER);
  };
  run.subscribe(() => {});
  await until(() => run.connection.status === "connected");
  const other = client.run("q");
  other.subscribe(() => {});
  await until(() => open.size === 1 && [...open.keys()].join().includes("run=q"));
  await until(() => other.connection.status === "connected");
  assert.equal(stolen, 1);
});

test("a log that is gone does not hold up what the leader says of the run", LIMIT, async (t) => {
  const { run, say } = beside(t, () => refusal(404, "run.not_found"));
  let code = "";
  run.finished().catch((error) => (code = error.code));
  const link = { transport: /** @type {const} */ ("sse"), retry_in_ms: null, problem: null };
  say({ type: "at", run: "r", at: "a-3" });
  say({ type: "link", run: "r", link: { ...link, status: "error", reason: "not_found" } });
  await until(() => code);
  assert.equal(code, "run.not_found");
});

test("a tab that comes back is not held up by a leader that hung when it went", LIMIT, async (t) => {
  const { run, locks, heard } = beside(t, () => page([], "0"));
  /** The tabs that want something. */
  const wanting = () => heard.flatMap((word) => (word.type === "want" && word.runs.length ? [word.tab] : []));
  const stop = run.subscribe(() => {});
  await until(() => wanting().length);
  // The leader waits for the lock of each tab; this one hangs, so it keeps what it gets.
  let hangs = false;
  locks.request(`${NAME} ${wanting()[0]}`, {}, () => new Promise(() => (hangs = true)));
  stop();
  await until(() => hangs);
  heard.length = 0;
  run.subscribe(() => {});
  await until(() => wanting().length);
});

test("a tab without a document watches over its leader all the same", LIMIT, async (t) => {
  const { run, locks } = beside(t, () => stream(), { patience: 40 });
  Reflect.deleteProperty(globalThis, "document");
  let stolen = false;
  locks.stealing = () => (stolen = true);
  run.subscribe(() => {});
  await until(() => stolen && run.connection.status === "connected");
});

test("a tab that hung and takes itself for the leader does not mislead the others for long", LIMIT, async (t) => {
  const { client, locks, say, heard } = beside(t, () => stream());
  const run = client.run("r");
  run.subscribe(() => {});
  locks.release(LEADER);
  await until(() => run.connection.status === "connected");
  heard.length = 0;
  const link = { transport: /** @type {const} */ ("sse"), retry_in_ms: null, reason: null, problem: null };
  say({ type: "link", run: "r", link: { ...link, status: "connecting" } });
  await until(() => heard.some((word) => word.type === "link" && word.link.status === "connected"));
  await until(() => run.connection.status === "connected");
});

test("a tab that comes when the others were told of a gap and of nothing more is told of it, too", LIMIT, async (t) => {
  const gap = { type: "gap", run: "r", after: "0", from: "a-5" };
  const { run, say } = beside(t, ({ url }) => {
    if (!url.includes("/events")) return stateAt(9);
    return url.includes("after=") ? page([], "a-8") : page([gap, words(5, 8)], "a-8", { resume: "gap" });
  });
  /** @type {string[]} */
  const seen = [];
  const seeing = (async () => {
    for await (const { type, id } of run.events()) seen.push(id ?? type);
  })();
  await until(() => run.connection.status === "connecting");
  say({ type: "event", run: "r", prev: null, event: words(5, 8) });
  say({ type: "event", run: "r", prev: "a-8", event: event(9) });
  await until(() => seen.length === 3);
  assert.deepEqual(seen, ["gap", "a-8", "a-9"]);
  run.close();
  await seeing;
});

test("what a tab was told of a gap it does not read", LIMIT, async (t) => {
  /** @type {string[]} */
  const asked = [];
  const { run, say } = beside(t, ({ url }) => (asked.push(url), stateAt(8)));
  /** @type {string[]} */
  const seen = [];
  run.on("delta", ({ id }) => void seen.push(id));
  await until(() => run.connection.status === "connecting");
  say({ type: "gap", run: "r", gap: { type: "gap", run: "r", after: "0", from: "a-5" } });
  say({ type: "event", run: "r", prev: null, event: words(5, 8) });
  await until(() => seen.length);
  assert.deepEqual(asked, [`${GATEWAY}/runs/r`]);
});
