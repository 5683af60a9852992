// A followed run, whatever breaks: clients/conformance/resume.json against a real server on a real socket.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Client } from "../../clients/js/index.js";
import { casesOf, streamOf } from "./conformance.js";
import { serving } from "./serving.js";

const HELLO = { type: "hello", connection: "c", version: 1, heartbeat_ms: 60_000, retry_ms: 1, resume: "start" };

for (const { name, runs = ["r"], connections, states = {}, sees, status, reason, blocks } of casesOf("resume")) {
  test(name, async () => {
    /** @type {(string | null)[]} */
    const came = [];
    /** @type {Parameters<typeof serving>[0]} */
    const answer = (response, request) => {
      const { pathname, searchParams } = new URL(request.url ?? "", "http://gateway");
      const state = states[/^\/runs\/(\w+)$/.exec(pathname)?.[1] ?? ""];
      if (state) return void response.writeHead(200).end(JSON.stringify(state));
      came.push(searchParams.get("after"));
      const { status: code = 200, body, frames } = connections[came.length - 1] ?? { status: 500 };
      response.writeHead(code, { "Content-Type": frames ? "text/event-stream" : "application/problem+json" });
      response.end(frames ? streamOf([HELLO, ...frames]) : body && JSON.stringify(body));
    };
    await serving(answer, async (url) => {
      const client = new Client({ url, getToken: "t", transports: ["sse"] });
      const seen = await Promise.all(
        runs.map(async (/** @type {string} */ id) => {
          const run = client.run(id);
          /** @type {unknown[]} */
          const found = [];
          const over = new Promise((resolve) => {
            run.subscribe(() => run.connection.reason && resolve(null));
          });
          try {
            for await (const event of run.events()) found.push(event.type === "gap" ? { gap: event["from"] } : event.id);
          } catch (error) {
            assert.equal(/** @type {any} */ (error).code, "run.not_found");
          }
          await over;
          assert.equal(run.connection.reason, reason);
          assert.equal(run.state.status, status);
          if (blocks) assert.deepEqual(run.state.blocks, blocks);
          return [id, found];
        }),
      );
      assert.deepEqual(Object.fromEntries(seen), Array.isArray(sees) ? { r: sees } : sees);
    });
    assert.deepEqual(came, connections.map((/** @type {any} */ { after }) => after));
  });
}
