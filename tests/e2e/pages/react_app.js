// A page of hooks for test_react.py, which bundles it: two components show the same run, and can be taken away.

import { createElement, StrictMode, useState } from "react";
import { createRoot } from "react-dom/client";
import { flushSync } from "react-dom";
import { Client } from "runcast";
import { RuncastProvider, useRun, useRuns, useStartRun } from "runcast/react";

/** @typedef {import("runcast").Run} Run */

/** @param {{name: string, id: string | null}} props */
function Shown({ name, id }) {
  const { state, connection } = useRun(id);
  return createElement("p", { id: name }, `${state.status}|${connection.status}|${state.blocks["body"] ?? ""}`);
}

function App() {
  const { start, run, state, error } = useStartRun("words");
  const [shown, show] = useState(true);
  const { runs, refresh } = useRuns({ pipeline: "words" });
  return createElement(
    "main",
    null,
    createElement("button", { id: "start", onClick: () => start({ count: 30, gap_s: 0.05 }) }, "Start"),
    createElement("button", { id: "bad", onClick: () => start({ count: -1 }) }, "Refused"),
    createElement("button", { id: "cancel", onClick: () => run?.cancel("enough") }, "Cancel"),
    createElement("button", { id: "toggle", onClick: () => show(!shown) }, "Show or hide"),
    createElement("button", { id: "refresh", onClick: refresh }, "Refresh"),
    createElement("p", { id: "state" }, state.status),
    createElement("p", { id: "error" }, error?.message ?? ""),
    createElement("p", { id: "runs" }, runs.map(({ status }) => status).join(" ")),
    shown && createElement(Shown, { name: "one", id: run?.id ?? null }),
    shown && createElement(Shown, { name: "other", id: run?.id ?? null }),
  );
}

/** What the test calls. @param {string} token */
function mount(token) {
  const client = new Client({ getToken: token });
  const root = createRoot(document.body.appendChild(document.createElement("div")));
  root.render(createElement(StrictMode, null, createElement(RuncastProvider, { client }, createElement(App))));
  return { client, unmount: () => flushSync(() => root.unmount()) };
}

Object.assign(globalThis, { mount });
