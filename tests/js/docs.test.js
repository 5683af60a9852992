// What docs/javascript.md shows is run, block by block, against a real gateway.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { Gateway, token } from "./gateway.js";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const PAGE = readFileSync(`${ROOT}/docs/javascript.md`, "utf8");
const CLIENT = `const client = new Client({ url: "http://127.0.0.1:8000", getToken: () => token });\n`;
const RUN = `const run = await client.start("content", { topic: "tides", sources: ["The tides follow the moon."] });\n`;

const gateway = new Gateway();
before(() => gateway.start());
after(() => gateway.erase());

/** A block with what the blocks before it on the page have made. @param {string} block */
function whole(block) {
  const has = (/** @type {string} */ text) => block.includes(text);
  const lines = [
    has("import { Client }") ? "" : 'import { Client } from "runcast";\n',
    "const token = process.env.TOKEN;\n",
    has("const client =") ? "" : CLIENT,
    has("const run =") || has("const { runs") || has("share:") ? "" : RUN,
    block,
  ];
  return lines.join("").replaceAll("http://127.0.0.1:8000", gateway.url);
}

const blocks = [...PAGE.matchAll(/^```js\n([\s\S]*?)^```$/gm)].map(([, block]) => block ?? "");

for (const [index, block] of blocks.entries()) {
  test(`block ${index + 1} of the page: ${block.trim().split("\n").at(-1)}`, { timeout: 30_000 }, async () => {
    const env = { ...process.env, TOKEN: token() };
    const command = ["--input-type=module", "--eval", whole(block)];
    const { stdout, stderr } = await promisify(execFile)(process.execPath, command, { cwd: ROOT, env });
    assert.equal(stderr, "");
    if (block.includes("console.log")) assert.notEqual(stdout, "");
  });
}

test("the page has its blocks, and every file that it names is there", () => {
  assert.equal(blocks.length, 6);
  for (const [, file] of PAGE.matchAll(/"\/js\/(\w+\.js)"/g)) readFileSync(`${ROOT}/clients/js/${file}`);
});
