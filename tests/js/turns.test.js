// What happens just when something else does: a connection, and a WebSocket under it.

import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { Connection } from "../../clients/js/connection.js";
import { Client } from "../../clients/js/index.js";
import { event, gateway, GATEWAY, page, refusal, scripted, stateAt, stream, until, words } from "./doubles.js";

/** @typedef {import("./doubles.js").Said} Said */
/** @typedef {ReturnType<typeof scripted>["sockets"][number]} Socket */

const LIMIT = { timeout: 20_000 };

/** A run that is followed: what came of it. @param {string} run */
function follower(run) {
  /** @type {string[]} */
  const ids = [];
  /** @type {import("../../clients/js/connection.js").Link[]} */
  const links = [];
  /** @type {import("../../clients/js/connection.js").Subscription} */
  const subscription = {
    run,
    cursor: null,
    event: ({ id }) => void ids.push(id),
    gap: () => {},
    link: (link) => void links.push(link),
  };
  return { subscription, ids, link: () => links.at(-1) };
}

/**
 * A connection that the test's runs come to and go from; none is left behind.
 * @param {import("node:test").TestContext} t
 * @param {Partial<import("../../clients/js/connection.js").ConnectionOptions>} options
 */
function connecting(t, options) {
  const connection = new Connection({ base: GATEWAY, getToken: async () => "t", ...options });
  /** @type {Set<ReturnType<typeof follower>>} */
  const joined = new Set();
  const leave = (/** @type {ReturnType<typeof follower>} */ one) => connection.leave(one.subscription);
  const join = (/** @type {string} */ run, one = follower(run)) => {
    joined.add(one);
    connection.join(one.subscription);
    return one;
  };
  t.after(() => joined.forEach(leave));
  return { connection, join, leave };
}

/** @param {Said} said @param {Socket} socket */
const agree = (said, socket) => void socket.reply(said);

/** A WebSocket connection with one run, and another one beside it. @param {import("node:test").TestContext} t */
async function beside(t, said = agree) {
  const { sockets, WebSocket } = scripted(said);
  const { join, leave } = connecting(t, { transports: ["websocket"], WebSocket });
  join("other");
  const one = join("r");
  await until(() => sockets[0]?.asked("subscribe", "r").length);
  return { join, leave, one, socket: /** @type {Socket} */ (sockets[0]) };
}

const notThere = { ok: false, error: { code: "run.not_found", title: "It is not there", retryable: false } };
/** @type {[string, string, (said: Said, socket: Socket) => void][]} */
const ends = [
  ["was not there", "not_found", (said, socket) => void socket.reply(said, notThere)],
  ["was over", "terminal", (said, socket) => void socket.reply(said, { done: true })],
  [
    "came to its end",
    "terminal",
    (said, socket) => {
      socket.reply(said);
      socket.put(event(1, "run.completed"));
    },
  ],
];

for (const [what, reason, first] of ends) {
  test(`a run that ${what} is subscribed to when it is joined again beside others`, LIMIT, async (t) => {
    let met = false;
    const { join, one, socket } = await beside(t, (said, it) => {
      if (said.run !== "r" || met) return void it.reply(said);
      met = true;
      first(said, it);
    });
    await until(() => one.link()?.reason === reason);
    join("r");
    await until(() => socket.asked("subscribe", "r").length === 2);
  });
}

test("a run that is left and joined again within a round trip loses nothing", LIMIT, async (t) => {
  const { join, leave, one, socket } = await beside(t, (said, it) => {
    if (said.type === "subscribe" && !said.after) it.reply(said);
  });
  socket.put(event(1));
  await until(() => one.ids.length === 1);
  leave(one);
  await until(() => socket.asked("unsubscribe", "r").length);
  // Sent before the gateway knew: one comes while nobody follows the run, one when it is followed again.
  await socket.put(event(2));
  join("r", one);
  await socket.put(event(3));
  await until(() => socket.asked("subscribe", "r").length === 2);
  const asked = socket.asked("subscribe", "r")[1];
  socket.reply(asked, { resume: "resumed" });
  for (let offset = 1 + Number(asked?.after?.slice(2) ?? 0); offset <= 4; offset++) socket.put(event(offset));
  await until(() => one.ids.includes("a-4"));
  assert.deepEqual(one.ids, ["a-1", "a-2", "a-3", "a-4"]);
});

test("a run that is joined anew within a round trip is given nothing that was sent before", LIMIT, async (t) => {
  const { join, leave, one, socket } = await beside(t);
  leave(one);
  await until(() => socket.asked("unsubscribe", "r").length);
  const anew = join("r");
  await socket.put(event(7));
  await until(() => socket.asked("subscribe", "r").length === 2);
  assert.deepEqual(anew.ids, []);
  assert.equal(socket.asked("subscribe", "r")[1]?.after, undefined);
});

test("after a gap whose state cannot be read nothing more of that connection is given", LIMIT, async (t) => {
  const gap = { type: "gap", run: "r", after: "0", from: "a-5" };
  /** @type {Promise<void> | undefined} */
  let came;
  const { WebSocket } = scripted((said, socket) => {
    socket.reply(said);
    if (said.type !== "subscribe" || said.after) return;
    for (const frame of [gap, words(5, 5), words(6, 6)]) came = socket.put(frame);
  });
  let reads = 0;
  const fetch = gateway(async () => {
    if (reads++) return stateAt(6);
    // What follows the gap is there before the state is refused.
    await came;
    return refusal(503, "server.busy");
  });
  const client = new Client({ url: GATEWAY, transports: ["websocket"], WebSocket, fetch });
  t.after(() => client.closeAll());
  const run = client.run("r");
  run.subscribe(() => {});
  await until(() => run.state.tail === "a-6");
  assert.equal(run.state.blocks["b"], "1,2,3,4,5,6,");
});

test("a fresh token that could not be had is asked for again", LIMIT, async (t) => {
  let current = "old";
  let failures = 0;
  const client = new Client({
    url: GATEWAY,
    transports: ["sse"],
    retryDelay: 1,
    getToken: ({ refresh }) => {
      if (refresh && !failures++) throw new Error("no network");
      if (refresh) current = "new";
      return current;
    },
    fetch: gateway(({ token }) =>
      token === "new" ? stream(event(1), event(2, "run.completed")) : refusal(401, "auth.expired"),
    ),
  });
  t.after(() => client.closeAll());
  assert.equal((await client.run("r").finished()).status, "completed");
});

test("a fresh token that is being fetched is not forgotten when another run is joined", LIMIT, async (t) => {
  let current = "old";
  let refreshing = false;
  const { join } = connecting(t, {
    transports: ["sse"],
    getToken: async ({ refresh }) => {
      if (!refresh) return current;
      refreshing = true;
      // Longer than runs that come and go are waited for.
      await pause(60);
      return (current = "new");
    },
    fetch: gateway(({ token }) => (token === "new" ? stream() : refusal(401, "auth.expired"))),
  });
  const one = join("r");
  await until(() => refreshing);
  join("q");
  await until(() => one.link()?.status === "connected" || one.link()?.reason);
  assert.equal(one.link()?.reason, null);
});

test("a run that is left just when its connection gives up is not followed for nobody", LIMIT, async (t) => {
  /** @type {((response: Response) => void)[]} */
  const asked = [];
  const fetch = gateway(() => new Promise((resolve) => asked.push(resolve)));
  const { connection, join, leave } = connecting(t, { transports: ["sse"], fetch });
  const one = join("p");
  await until(() => asked.length);
  leave(join("q"));
  asked[0]?.(refusal(403, "auth.forbidden"));
  await until(() => one.link()?.reason === "forbidden");
  await pause(100);
  assert.deepEqual(connection.connections, []);
  assert.equal(asked.length, 1);
});

test("a hello that does not come is noticed in time, also after another run was joined", LIMIT, async (t) => {
  let streams = 0;
  const fetch = gateway(({ streamed }) => {
    if (!streamed) return page([], "0");
    return streams++ ? new Promise(() => {}) : stream();
  });
  const { connection, join } = connecting(t, { transports: ["sse", "poll"], fetch, timeout: 100 });
  const one = join("p");
  await until(() => one.link()?.status === "connected");
  join("q");
  await until(() => connection.link.transport === "poll");
});
