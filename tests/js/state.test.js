import assert from "node:assert/strict";
import { test } from "node:test";
import { follows } from "../../clients/js/cursor.js";
import { apply, initialState, isTerminal } from "../../clients/js/state.js";

let offset = 0;
/** @param {string} type @param {object} [fields] @returns {import("../../clients/js/state.js").RunEvent} */
const event = (type, fields = {}) => ({ type, run: "r1", id: `e-${++offset}`, ts: 1000 + offset, ...fields });

/** @param {import("../../clients/js/state.js").RunEvent[]} events */
const fold = (...events) => events.reduce(apply, initialState());

test("lifecycle events give the status and its times", () => {
  const queued = event("run.queued", { pipeline: "content", owner: "ann" });
  const started = event("run.started");
  const failed = event("run.failed", { error: { code: "x", message: "y", retryable: true }, duration_ms: 5 });
  const state = fold(queued, started, failed);
  assert.equal(state.status, "failed");
  assert.equal(state.pipeline, "content");
  assert.equal(state.owner, "ann");
  assert.deepEqual([state.created_at, state.started_at, state.finished_at], [queued.ts, started.ts, failed.ts]);
  assert.equal(state.error?.code, "x");
  assert.equal(state.tail, failed.id);
});

test("a run that is paused and resumed is running", () => {
  assert.equal(fold(event("run.started"), event("run.paused", { by: "a" })).status, "paused");
  assert.equal(fold(event("run.paused", { by: "a" }), event("run.resumed", { by: "a" })).status, "running");
});

test("deltas grow their own block", () => {
  const state = fold(
    event("delta", { block: "a", delta: "on" }),
    event("delta", { block: "b", delta: "two" }),
    event("delta", { block: "a", delta: "e" }),
  );
  assert.deepEqual(state.blocks, { a: "one", b: "two" });
});

test("a block may be called __proto__ or toString", () => {
  const state = fold(
    event("delta", { block: "__proto__", delta: "x" }),
    event("delta", { block: "__proto__", delta: "y" }),
    event("delta", { block: "toString", delta: "z" }),
  );
  assert.deepEqual(Object.entries(state.blocks), [["__proto__", "xy"], ["toString", "z"]]);
});

test("a draft takes the place of the one before it in its stage; what it does not say stays", () => {
  const state = fold(
    event("progress", { stage: "plan", message: "thinking", progress: 10 }),
    event("draft", { stage: "write", draft: "v1" }),
    event("draft", { stage: "write", draft: "v2", progress: 40 }),
  );
  assert.deepEqual(state.drafts, { write: "v2" });
  assert.deepEqual([state.stage, state.message, state.progress], ["write", "thinking", 40]);
});

test("stages are listed in their order, each once", () => {
  const state = fold(
    event("stage.started", { stage: "b", index: 2, of: 2 }),
    event("stage.started", { stage: "a", index: 1, of: 2 }),
    event("stage.completed", { stage: "a", index: 1, of: 2, duration_ms: 3 }),
  );
  assert.deepEqual(state.stages, [
    { stage: "a", index: 1, of: 2, done: true },
    { stage: "b", index: 2, of: 2, done: false },
  ]);
});

test("a question stays until it is answered or the run is over", () => {
  const ask = event("input.requested", { input_id: "q", prompt: "Go on?" });
  assert.equal(fold(ask).inputs[0]?.prompt, "Go on?");
  assert.deepEqual(fold(ask, event("input.received", { input_id: "q", by: "a" })).inputs, []);
  assert.deepEqual(fold(ask, event("run.completed", { result: null, duration_ms: 1 })).inputs, []);
});

test("an unknown type moves the cursor and nothing else", () => {
  const before = fold(event("run.started"));
  const strange = event("x.mine", { status: "failed", blocks: 1 });
  assert.deepEqual(apply(before, strange), { ...before, tail: strange.id });
});

test("folding changes no earlier state", () => {
  const before = Object.freeze(fold(event("delta", { block: "a", delta: "1" })));
  apply(before, event("delta", { block: "a", delta: "2" }));
  assert.deepEqual(before.blocks, { a: "1" });
});

test("only three types are terminal", () => {
  assert.deepEqual(
    ["run.completed", "run.failed", "run.cancelled", "run.cancelling", "toString"].map(isTerminal),
    [true, true, true, false, false],
  );
});

test("an event follows when its offset is higher in the same epoch, or when nothing came before", () => {
  assert.ok(follows(null, "a-7"));
  assert.ok(follows("a-9", "a-10"));
  assert.ok(!follows("a-10", "a-10"));
  assert.ok(!follows("a-10", "b-11"));
  assert.ok(!follows("a-1", "nonsense"));
});
