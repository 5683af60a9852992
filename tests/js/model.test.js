// Random models of what a client meets, a few seeds of each; `python -m tests.stress models` runs thousands.

import assert from "node:assert/strict";
import { test } from "node:test";
import { play } from "./model/models.js";

/** @type {readonly [model: string, seeds: number, what: string][]} */
const SHORT = [
  ["sse", 60, "a connection over server-sent events"],
  ["websocket", 60, "a connection over WebSockets"],
  ["poll", 60, "a connection over long-polls"],
  ["connection", 60, "a connection over whatever works"],
  ["client", 80, "a client"],
  ["tabs", 80, "the tabs of a browser"],
];

for (const [model, seeds, what] of SHORT) {
  test(`${what}: each event comes once and in order, and nothing is left behind, whatever happens`, async () => {
    for (let seed = 0; seed < seeds; seed++) {
      const law = await play(model, seed);
      assert.equal(law, null, `seed ${seed}: ${law}`);
    }
  });
}
