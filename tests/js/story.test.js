// A run's story: what its events tell beside the state.

import assert from "node:assert/strict";
import { test } from "node:test";
import { beginning, tell } from "../../clients/js/elements/story.js";
import { rowsOf } from "../../clients/js/elements/timeline_rows.js";

/** @param {...Record<string, any>} events one each millisecond */
function told(...events) {
  const story = beginning();
  events.forEach((event, place) =>
    tell(story, /** @type {any} */ ({ run: "r", id: `a-${place + 1}`, ts: place, ...event })),
  );
  return story;
}

test("stages and calls have a beginning and an end", () => {
  const story = told(
    { type: "stage.started", stage: "s", index: 1, of: 1 },
    { type: "tool.started", call: "1", tool: "search", args: { q: 1 } },
    { type: "llm.started", call: "1", model: "m" },
    { type: "tool.completed", call: "1", tool: "search", result: 7 },
    { type: "stage.completed", stage: "s", index: 1, of: 1 },
  );
  assert.deepEqual(story.stages, [{ stage: "s", index: 1, of: 1, done: true, began: 0, ended: 4 }]);
  const [tool, llm] = story.calls;
  assert.deepEqual([tool?.name, tool?.began, tool?.ended, tool?.result], ["search", 1, 3, 7]);
  assert.deepEqual([llm?.name, llm?.ended], ["m", null]);
});

test("a stage that is begun again is told twice, and the newest open one ends", () => {
  const again = { type: "stage.started", stage: "s", index: 1, of: 1 };
  const story = told(again, again, { type: "stage.completed", stage: "s", index: 1, of: 1 });
  assert.deepEqual(
    story.stages.map(({ ended }) => ended),
    [null, 2],
  );
});

test("the end of a run ends all that is open, but makes nothing done", () => {
  const story = told(
    { type: "stage.started", stage: "s", index: 1, of: 1 },
    { type: "run.paused", by: "a" },
    { type: "input.requested", input_id: "i", prompt: "?" },
    { type: "run.failed" },
  );
  assert.deepEqual([story.stages[0]?.done, story.stages[0]?.ended, story.pauses[0]?.ended], [false, 3, 3]);
  assert.deepEqual([story.questions[0]?.ended, story.ended], [3, 3]);
});

test("money is added up call by call, and the gateway's own sum wins when it is more", () => {
  const used = { usage: { input_tokens: 1, output_tokens: 1 }, cost_usd: 0.25 };
  const story = told(
    { type: "llm.started", call: "1", model: "m" },
    { type: "llm.completed", call: "1", model: "m", ...used },
    { type: "llm.completed", call: "unheard of", model: "m", ...used },
    { type: "budget.warning", limit_usd: 1, spent_usd: 0.9 },
  );
  assert.deepEqual([story.spent_usd, story.budget], [0.9, { limit_usd: 1, exceeded: false }]);
});

test("citations are kept once for each block, and what is complete is known", () => {
  const cites = [{ key: "1", source: "A" }];
  const story = told(
    { type: "delta", block: "b", delta: "x", cites },
    { type: "delta", block: "b", delta: "y", cites: [...cites, { key: "2", source: "B" }], done: true },
  );
  assert.deepEqual(
    story.cites.get("b")?.map(({ key }) => key),
    ["1", "2"],
  );
  assert.ok(story.complete.has("b"));
});

test("what comes without end is kept in bounds", () => {
  const story = told(...Array.from({ length: 3000 }, (_, place) => ({ type: "x.row", place })));
  assert.equal(story.custom.length, 1000);
  assert.equal(story.custom.at(-1)?.["place"], 2999);
});

test("bars that overlap lie in lanes of their own, however many there are", () => {
  const started = Array.from({ length: 20 }, (_, place) => ({ type: "tool.started", call: String(place), tool: "t" }));
  const rows = rowsOf(told(...started));
  assert.equal(rows.length, 6);
  assert.equal(rows.flatMap(({ bars }) => bars).length, 20);
  assert.deepEqual(
    rows.map(({ title }) => title),
    ["Tools", "", "", "", "", ""],
  );
});
