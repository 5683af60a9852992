// The console's pure parts: what a form asks for, and Markdown as a tree.

import assert from "node:assert/strict";
import { test } from "node:test";
import { parse } from "../../clients/js/elements/markdown.js";
import { describe } from "../../clients/js/elements/schema.js";
import { seeded } from "./seeded.js";

/** @param {import("../../clients/js/elements/schema.js").Schema} schema */
const kindOf = (schema) => describe(schema).kind;

test("each schema has its kind of field", () => {
  assert.equal(kindOf({ type: "string" }), "text");
  assert.equal(kindOf({ type: "string", maxLength: 501 }), "long");
  assert.equal(kindOf({ type: "string", "x-widget": "textarea" }), "long");
  assert.equal(kindOf({ type: "integer" }), "number");
  assert.equal(kindOf({ type: "boolean" }), "boolean");
  assert.equal(kindOf({ enum: ["a", "b"] }), "choice");
  assert.equal(kindOf({ anyOf: [{ const: 1 }, { enum: ["x"] }] }), "choice");
  assert.equal(kindOf({ type: "object", properties: {} }), "object");
  assert.equal(kindOf({ type: "array", items: { type: "integer" } }), "list");
  assert.equal(describe({ type: "array", items: { type: "string" } }).item?.kind, "long");
});

test("what is not understood is asked for as JSON", () => {
  const mixed = { anyOf: [{ type: "string" }, { type: "integer" }] };
  for (const schema of [{}, { type: "object" }, { type: "array" }, mixed]) assert.equal(kindOf(schema), "json");
  assert.equal(kindOf({ $ref: "#/$defs/none" }), "json");
});

test("references are followed, and what stands beside them wins", () => {
  const properties = { a: { $ref: "#/$defs/T", title: "Mine" } };
  const schema = { $defs: { T: { type: "string", title: "T" } }, type: "object", properties };
  const field = describe(schema).fields?.[0]?.field;
  assert.deepEqual([field?.kind, field?.title], ["text", "Mine"]);
});

test("a union with null is the other one, and may be left out", () => {
  const field = describe({ anyOf: [{ type: "integer", minimum: 1 }, { type: "null" }] });
  assert.deepEqual([field.kind, field.nullable, field.schema["minimum"]], ["number", true, 1]);
});

test("a schema that holds itself ends somewhere", () => {
  const schema = { $defs: { N: { type: "object", properties: { next: { $ref: "#/$defs/N" } } } }, $ref: "#/$defs/N" };
  assert.equal(describe(schema).kind, "object");
  assert.equal(kindOf({ $ref: "#" }), "json");
});

/** @param {string} text */
const first = (text) => /** @type {any} */ (parse(text)[0]);

test("Markdown blocks", () => {
  assert.deepEqual(first("## Hi ##"), { type: "heading", level: 2, children: [{ type: "text", text: "Hi" }] });
  assert.deepEqual(first("```js\n# no\n```"), { type: "code", text: "# no" });
  assert.deepEqual(first("***"), { type: "rule" });
  assert.equal(first("> a\n> b").blocks[0].type, "paragraph");
  assert.deepEqual([first("3. a\n4. b").start, first("3. a\n4. b").items.length], [3, 2]);
  assert.equal(first("- a\n  - b\n- c").items[0][1].type, "list");
  assert.equal(first("|a|b|\n|-|-|\n|1|2|").rows[0].length, 2);
  assert.equal(parse("a\n\nb").length, 2);
});

test("Markdown marks", () => {
  /** @param {string} text */
  const types = (text) => first(text).children.map((/** @type {any} */ part) => part.type).join(" ");
  assert.equal(types("a *b* **c** `d` ~~e~~"), "text em text strong text code text del");
  assert.equal(types("***a***"), "strong");
  assert.equal(types("snake_case_name and 2 * 3 * 4"), "text");
  assert.equal(types("[a](https://b.c/(d)) [1] [2]"), "link text");
  assert.equal(types("\\*a\\*"), "text");
  assert.equal(first("<b>").children[0].text, "<b>");
});

/** @param {any} tree @returns {string} */
function textsIn(tree) {
  if (typeof tree !== "object" || tree === null) return "";
  const own = [tree.text, tree.href].filter((text) => typeof text === "string").join(" ");
  return own + Object.values(tree).map(textsIn).join(" ");
}

test("any text is taken, quickly, and none of its words are lost", () => {
  const random = seeded(5);
  const marks = ["*", "**", "_", "`", "```", "[", "](", ")", "|", "\\"];
  const atoms = [...marks, "> ", "- ", "1. ", "#", "-", "\n", "\n\n", " ", "w"];
  for (let round = 0; round < 2000; round++) {
    let text = "";
    for (let count = random() * 50; count > 0; count--) text += atoms[Math.floor(random() * atoms.length)];
    const words = (/** @type {string} */ given) => given.split("w").length;
    // What follows ``` on its line is the code's language, which is not shown.
    if (!text.includes("```")) assert.equal(words(textsIn(parse(text))), words(text), JSON.stringify(text));
  }
  for (const atom of ["[", "*a ", "**", "`", "> ", "- ", "_a", "]("]) {
    const began = performance.now();
    parse(atom.repeat(20_000));
    assert.ok(performance.now() - began < 5_000, atom);
  }
});
