// The hooks where there is no page: a server renders what is known, and opens nothing.

import assert from "node:assert/strict";
import { test } from "node:test";
import { createElement, StrictMode } from "react";
import { renderToString } from "react-dom/server";
import { Client } from "../../clients/js/index.js";
import { RuncastProvider, useRun, useRuns, useStartRun } from "../../clients/js/react.js";

/** @type {typeof globalThis.fetch} */
const never = () => assert.fail("a server renders without asking anybody");

/** @param {import("react").FunctionComponent} component */
function render(component) {
  const client = new Client({ url: "http://gateway.invalid", fetch: never });
  const html = renderToString(
    createElement(StrictMode, null, createElement(RuncastProvider, { client }, createElement(component))),
  );
  return { html, client };
}

test("a server renders a run's first snapshot and opens nothing", async () => {
  const { html, client } = render(() => {
    const { state, connection } = useRun("r1", { onEvent: () => assert.fail("nothing happens on a server") });
    return createElement("p", null, `${state.id} ${state.status} ${connection.status}`);
  });
  assert.equal(html, "<p>r1 queued disconnected</p>");
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(client.connections.length, 0);
});

test("what the server has read of a run is what it renders", () => {
  /** @type {Partial<import("../../clients/js/state.js").RunState>} */
  const initial = { id: "r1", status: "running", progress: 40 };
  const { html } = render(() => {
    const { state } = useRun("r1", { initial });
    return createElement("p", null, `${state.status} ${state.progress} ${state.stages.length}`);
  });
  assert.equal(html, "<p>running 40 0</p>");
});

test("a form and a list are rendered without a request", async () => {
  const { html } = render(() => {
    const { run, starting, error } = useStartRun("words");
    const { runs, loading } = useRuns({ status: "running" });
    return createElement("p", null, JSON.stringify([run, starting, error, runs, loading]));
  });
  assert.equal(html, "<p>[null,false,null,[],true]</p>");
  await new Promise((resolve) => setImmediate(resolve));
});

test("without a provider it says what is missing", () => {
  assert.throws(() => renderToString(createElement(() => void useRun("r1"))), /RuncastProvider/);
});
