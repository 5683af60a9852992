import assert from "node:assert/strict";
import { test } from "node:test";
import { SseParser } from "../../clients/js/sse.js";
import { casesOf } from "./conformance.js";
import { seeded } from "./seeded.js";

/** @param {string} text */
const bytes = (text) => new TextEncoder().encode(text);

/** @param {string} text */
function parse(text) {
  const parser = new SseParser();
  return { messages: parser.feed(bytes(text)), retry: parser.retry };
}

for (const { name, input, hex, messages, retry = null } of casesOf("parser")) {
  test(name, () => {
    const whole = hex ? Buffer.from(hex, "hex") : bytes(input);
    for (const size of [whole.length, 1, 2, 3]) {
      const parser = new SseParser();
      /** @type {unknown[]} */
      const found = [];
      for (let at = 0; at < whole.length; at += size) found.push(...parser.feed(whole.subarray(at, at + size)));
      assert.deepEqual({ messages: found, retry: parser.retry }, { messages, retry });
    }
  });
}

test("a message comes out with the CR that ends it, without waiting for a LF", () => {
  const parser = new SseParser();
  assert.equal(parser.feed(bytes("data: a\r\r")).length, 1);
  assert.deepEqual(parser.feed(bytes("\ndata: b\n\n")), [{ event: "message", data: "b", id: "" }]);
});

test("any split of the bytes gives the same messages", () => {
  const random = seeded(20);
  const fields = ["data", "event", "id", "retry", ":", " ", "a", "1"];
  const atoms = [...fields, "\n", "\r", "\r\n", "\n\n", "é", "𝄞", "\0", "\uFEFF"];
  for (let round = 0; round < 3000; round++) {
    let text = "";
    for (let count = random() * 60; count > 0; count--) text += atoms[Math.floor(random() * atoms.length)];
    const whole = bytes(text);
    const parser = new SseParser();
    const messages = [];
    for (let at = 0; at < whole.length; ) {
      const end = at + Math.floor(random() * 5);
      messages.push(...parser.feed(whole.subarray(at, end)));
      at = end;
    }
    assert.deepEqual({ messages, retry: parser.retry }, parse(text), JSON.stringify(text));
  }
});

test("a line of a megabyte in small pieces is taken in reasonable time", () => {
  const parser = new SseParser();
  const piece = bytes("x".repeat(64));
  const began = performance.now();
  parser.feed(bytes("data: "));
  for (let count = 0; count < 16_384; count++) parser.feed(piece);
  assert.equal(parser.feed(bytes("\n\n"))[0]?.data.length, 1 << 20);
  assert.ok(performance.now() - began < 5_000);
});
