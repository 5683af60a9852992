import assert from "node:assert/strict";
import { test } from "node:test";
import { SseParser } from "../../clients/js/sse.js";
import { seeded } from "./seeded.js";

/** @param {string} text */
const bytes = (text) => new TextEncoder().encode(text);

/** @param {string} text */
function parse(text) {
  const parser = new SseParser();
  return { messages: parser.feed(bytes(text)), retry: parser.retry };
}

/** @type {[string, string, import("../../clients/js/sse.js").Message[]][]} */
const CASES = [
  ["a message ends at its blank line", "data: a\n\n", [{ event: "message", data: "a", id: "" }]],
  ["data lines are joined", "data: a\ndata: b\n\n", [{ event: "message", data: "a\nb", id: "" }]],
  ["one space after the colon is dropped, no more", "data:  a\n\n", [{ event: "message", data: " a", id: "" }]],
  ["a field without a colon has an empty value", "data\n\ndata\ndata\n\n", [
    { event: "message", data: "", id: "" },
    { event: "message", data: "\n", id: "" },
  ]],
  ["a message without data is none, and its event name is forgotten", "event: x\n\ndata: a\n\n", [
    { event: "message", data: "a", id: "" },
  ]],
  ["an id holds until another comes", "id: 1\ndata: a\n\ndata: b\n\nid\ndata: c\n\n", [
    { event: "message", data: "a", id: "1" },
    { event: "message", data: "b", id: "1" },
    { event: "message", data: "c", id: "" },
  ]],
  ["an id holds although its own message had no data", "id: 7\n\ndata: a\n\n", [
    { event: "message", data: "a", id: "7" },
  ]],
  ["an id with NUL is ignored", "id: 1\nid: 2\0\ndata: a\n\n", [{ event: "message", data: "a", id: "1" }]],
  ["comments and unknown fields are ignored", ": hi\nfoo: bar\ndata: a\n:\n\n", [
    { event: "message", data: "a", id: "" },
  ]],
  ["CR, LF and CRLF all end a line", "event: e\rdata: a\r\ndata: b\n\r\n", [{ event: "e", data: "a\nb", id: "" }]],
  ["CRLF is one ending", "data: a\r\n\r\ndata: b\r\n\r\n", [
    { event: "message", data: "a", id: "" },
    { event: "message", data: "b", id: "" },
  ]],
  ["a byte order mark is dropped", "\uFEFFdata: a\n\n", [{ event: "message", data: "a", id: "" }]],
  ["only the first byte order mark", "\uFEFF\uFEFFdata: a\n\ndata: b\n\n", [{ event: "message", data: "b", id: "" }]],
  ["field names are compared exactly", "Data: a\n data: b\n\n", []],
  ["what has no blank line was never sent", "data: a\n\ndata: b\n", [{ event: "message", data: "a", id: "" }]],
];

for (const [name, text, expected] of CASES) {
  test(name, () => assert.deepEqual(parse(text).messages, expected));
}

test("retry takes digits only", () => {
  assert.equal(parse("retry: 1500\n").retry, 1500);
  assert.equal(parse("retry: 1500ms\n").retry, null);
  assert.equal(parse("retry:\n").retry, null);
  assert.equal(parse("retry: -1\n").retry, null);
});

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
