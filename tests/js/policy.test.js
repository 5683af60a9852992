// The cases stand in clients/conformance/policy.json, in no language's terms, so that other clients can be held to them too.

import assert from "node:assert/strict";
import { test } from "node:test";
import { decide, initial, silenceMs, TRANSPORTS } from "../../clients/js/policy.js";
import { casesOf } from "./conformance.js";
import { seeded } from "./seeded.js";

for (const { name, start = {}, steps } of casesOf("policy")) {
  test(name, () => {
    let state = { ...initial(start), ...start };
    for (const { outcome, now = 1_000_000, random = 0, action, state: expected = {} } of steps) {
      const [next, decided] = decide(state, outcome, { now, random });
      assert.deepEqual(decided, action, JSON.stringify(outcome));
      assert.deepEqual({ ...next, ...expected }, next, JSON.stringify(outcome));
      state = next;
    }
  });
}

test("a connection is dead after two and a half heartbeats", () => {
  assert.equal(silenceMs({ ...initial(), heartbeat_ms: 2_000 }), 5_000);
});

test("a remembered transport is begun with, unless it is not allowed", () => {
  assert.equal(initial({ worked: "websocket" }).transport, "websocket");
  assert.equal(initial({ worked: "websocket", transports: ["sse"] }).transport, "sse");
});

test("without a frame no sequence of bad luck goes on for ever", () => {
  /** @type {import("../../clients/js/policy.js").Outcome[]} */
  const bad = [
    { type: "refused" },
    { type: "open_timeout" },
    { type: "unreachable" },
    { type: "lost" },
    { type: "hello", retry_ms: 100, heartbeat_ms: 1000 },
    { type: "status", status: 401 },
    { type: "status", status: 503, retry_after_ms: 0 },
    { type: "status", status: 418 },
    { type: "closed", code: 1006 },
    { type: "closed", code: 4200 },
    { type: "renewed" },
  ];
  for (let seed = 0; seed < 500; seed++) {
    const random = seeded(seed);
    let state = initial();
    let ends = 0;
    while (state.status !== "error") {
      const outcome = bad[Math.floor(random() * bad.length)] ?? bad[0];
      assert.ok(outcome);
      [state] = decide(state, outcome, { now: 0, random: random() });
      if (outcome.type !== "hello" && outcome.type !== "renewed") ends++;
      assert.ok(ends <= 10 * TRANSPORTS.length + 2, `seed ${seed}`);
    }
  }
});
