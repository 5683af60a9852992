// Our parser beside eventsource-parser, on random streams cut at random: they must say the same.
// RUNCAST_FUZZ_RUNS sets how many (default: a few hundred), RUNCAST_SEED which.

import assert from "node:assert/strict";
import { test } from "node:test";
import { createParser } from "eventsource-parser";
import fc from "fast-check";
import { SseParser } from "../../clients/js/sse.js";

const RUNS = Number(process.env["RUNCAST_FUZZ_RUNS"] ?? 400);
const SEED = Number(process.env["RUNCAST_SEED"] ?? 20);

const ending = fc.constantFrom("\n", "\r\n", "\r");
const words = fc.oneof(
  fc.string({ unit: fc.constantFrom("a", " ", ":", "é", "𝄞", "\u2028", "0", "{", '"'), maxLength: 20 }),
  fc.json({ maxDepth: 2 }),
);
const field = fc.oneof(
  { weight: 5, arbitrary: fc.tuple(fc.constant("data"), words) },
  { weight: 2, arbitrary: fc.tuple(fc.constantFrom("event", "id", "x", ""), words) },
  { weight: 1, arbitrary: fc.tuple(fc.constant("retry"), fc.oneof(fc.nat().map(String), words)) },
);
const colon = fc.constantFrom(":", ": ", ":  ");
const line = fc.oneof(
  { weight: 6, arbitrary: fc.tuple(field, colon).map(([[name, value], mark]) => name + mark + value) },
  { weight: 1, arbitrary: fc.constantFrom("data", "event", "id", "retry", "nonsense") },
  { weight: 3, arbitrary: fc.constant("") },
);
const stream = fc
  .tuple(fc.constantFrom("", "\uFEFF"), fc.array(fc.tuple(line, ending), { maxLength: 30 }))
  // The reference holds a CR back until it sees what follows, so something does.
  .map(([mark, lines]) => `${mark}${lines.flat().join("")}: over\n`);
const cuts = fc.array(fc.nat({ max: 40 }), { minLength: 1, maxLength: 20 });

/** @param {string} text @param {number[]} sizes */
function pieces(text, sizes) {
  const whole = new TextEncoder().encode(text);
  const cut = [];
  for (let at = 0, turn = 0; at < whole.length; turn++) {
    const end = at + (sizes[turn % sizes.length] ?? 1) + (turn % sizes.length === 0 ? 1 : 0);
    cut.push(whole.subarray(at, end));
    at = end;
  }
  return cut;
}

/** @param {string} text @param {number[]} sizes */
function ours(text, sizes) {
  const parser = new SseParser();
  const messages = pieces(text, sizes).flatMap((piece) => parser.feed(piece));
  return { messages: messages.map(({ event, data }) => ({ event, data })), retry: parser.retry };
}

/** @param {string} text @param {number[]} sizes */
function theirs(text, sizes) {
  /** @type {{event: string, data: string}[]} */
  const messages = [];
  /** @type {number | null} */
  let retry = null;
  const parser = createParser({
    onEvent: ({ event, data }) => messages.push({ event: event || "message", data }),
    onRetry: (ms) => (retry = ms),
  });
  const decoder = new TextDecoder();
  for (const piece of pieces(text, sizes)) parser.feed(decoder.decode(piece, { stream: true }));
  return { messages, retry };
}

test("any stream in any pieces is read as the reference reads it", { timeout: 600_000 }, () => {
  fc.assert(
    fc.property(stream, cuts, (text, sizes) => assert.deepEqual(ours(text, sizes), theirs(text, sizes))),
    { seed: SEED, numRuns: RUNS },
  );
});
