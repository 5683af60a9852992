// One run on the page: status, progress, connection, failure, and which buttons make sense.
//
// Rule 1: drawn from the state alone; drawing twice changes nothing.
// Rule 2: what changes often is shown, what changes rarely is also said aloud (`#announce`).

import { isFinished } from "../js/state.js";
import { byId, el, lengthOf, say, timeOf } from "./dom.js";

/** @typedef {import("../js/state.js").RunState} RunState */
/** @typedef {import("../js/follow.js").Connection} Connection */

const TRANSPORT_NAMES = { sse: "SSE", websocket: "WebSocket", poll: "long-poll" };

const CONNECTION_WORDS = {
  connecting: "connecting",
  connected: "live",
  retrying: "retrying",
  disconnected: "closed",
  error: "closed",
};

/** @type {Record<string, string>} */
const CLOSED_BY = {
  unauthorized: "The token was refused, also after a fresh one was fetched.",
  forbidden: "This token does not allow reading the run.",
  not_found: "The run is no longer there.",
  protocol: "The gateway closed the connection because of a mistake in this client.",
  exhausted: "The gateway could not be reached, however often it was tried.",
};

/** @param {import("./watch.js").Watch} watch */
export function drawRun({ id, state, problem, connection }) {
  byId("idle").hidden = id !== null;
  byId("loading").hidden = id === null || state !== null || problem !== null;
  byId("missing").hidden = id === null || state !== null || problem === null;
  byId("run").hidden = state === null;
  drawConnection(connection);
  const status = state?.status ?? "idle";
  say(byId("status"), status);
  byId("status").dataset["status"] = status;
  if (problem && !state) drawMissing(problem);
  if (state) {
    drawHead(state);
    drawProgress(state);
    announce(state, connection);
    drawButtons(state);
    drawFailure(state);
  }
  const doing = state && !isFinished(status) ? `${Math.round(state.progress)} % ${state.pipeline} · ` : "";
  document.title = `${doing || (state ? `${status}: ${state.pipeline} · ` : "")}Runcast`;
}

/** @param {Connection} connection */
function drawConnection({ status, transport, retry_in_ms, reason }) {
  const badge = byId("connection");
  badge.dataset["status"] = status;
  if (status === "retrying" && retry_in_ms !== null) countDown(badge, retry_in_ms);
  else {
    countDown(badge, null);
    say(badge, CONNECTION_WORDS[status]);
  }
  const open = status !== "disconnected" && status !== "error";
  say(byId("transport"), open || reason ? TRANSPORT_NAMES[transport] : "—");
  const broken = status === "error";
  byId("disconnected").hidden = !broken;
  if (broken) say(byId("disconnected-why"), CLOSED_BY[reason ?? ""] ?? "The connection is closed.");
}

/** @type {{until: number, asked: number, timer: number} | null} */
let counting = null;

/** Show the seconds that are left, second by second. @param {HTMLElement} badge @param {number | null} ms */
function countDown(badge, ms) {
  if (counting && counting.asked === ms) return;
  if (counting) clearInterval(counting.timer);
  counting = null;
  if (ms === null) return;
  const until = Date.now() + ms;
  const show = () => say(badge, `retrying in ${Math.max(0, Math.ceil((until - Date.now()) / 1000))} s`);
  show();
  counting = { until, asked: ms, timer: window.setInterval(show, 250) };
}

/** @param {Error & {code?: string, status?: number}} problem */
function drawMissing(problem) {
  const gone = problem.status === 404;
  say(byId("missing-title"), gone ? "There is no such run" : "The run could not be read");
  say(
    byId("missing-why"),
    gone ? "It was deleted, it never existed, or it belongs to someone else." : problem.message,
  );
  byId("missing-again").hidden = gone;
}

/** @param {RunState} state */
function drawHead(state) {
  say(byId("run-pipeline"), state.pipeline);
  say(byId("run-id"), state.id);
  const began = state.started_at ?? state.created_at;
  const ended = state.finished_at ?? Date.now();
  say(byId("run-began"), timeOf(began));
  say(byId("run-length"), began === null ? "" : lengthOf(Math.floor((ended - began) / 100) * 100));
  const usage = Object.entries(state.usage ?? {}).filter(([, value]) => ["number", "string"].includes(typeof value));
  byId("usage").replaceChildren(
    ...usage.map(([name, value]) =>
      el("span", {}, `${name.replaceAll("_", " ")} `, el("b", {}, value.toLocaleString())),
    ),
  );
}

/** @param {RunState} state */
function drawProgress(state) {
  const { status, stage, stages } = state;
  const value = status === "completed" ? 100 : Math.round(state.progress * 10) / 10;
  const bar = byId("progress");
  bar.setAttribute("aria-valuenow", String(value));
  bar.setAttribute("aria-valuetext", `${value} %${stage ? `, ${stage}` : ""}`);
  bar.style.setProperty("--value", `${value}%`);
  bar.dataset["status"] = status;
  say(byId("percent"), `${Math.round(value)} %`);
  say(byId("message"), messageOf(state));

  const row = byId("stages");
  row.hidden = stages.length === 0;
  const of = stages.at(-1)?.of ?? 0;
  const rest = Math.max(0, of - stages.length);
  const shown = JSON.stringify([stages, stage, status]);
  if (row.dataset["shown"] !== shown) {
    row.dataset["shown"] = shown;
    row.replaceChildren(
      ...stages.map(({ stage: name, done }) => {
        const as = done ? "done" : isFinished(status) ? "stopped" : "active";
        const mark = el("i", { "aria-hidden": "true" }, { done: "✓", stopped: "–", active: "" }[as]);
        return el("li", { class: as, "aria-current": as === "active" && "step" }, mark, name);
      }),
      rest > 0 && !isFinished(status) ? el("li", { class: "ahead" }, `+${rest}`) : "",
    );
  }
}

/** @param {RunState} state @param {Connection} connection */
function announce({ status, stage }, connection) {
  const where = stage && !isFinished(status) ? `, stage ${stage}` : "";
  const lost = connection.status === "retrying" ? ". The connection is lost; trying again" : "";
  say(byId("announce"), `Run ${status}${where}${lost}`);
}

/** @param {RunState} state */
function messageOf({ status, message, stage }) {
  if (status === "queued") return "Waiting to start";
  if (status === "completed") return "Done";
  if (status === "cancelling") return "Stopping…";
  if (status === "cancelled") return message ? `Stopped at: ${message}` : "Stopped";
  return message ?? stage ?? "";
}

/** @param {RunState} state */
function drawButtons({ status }) {
  const finished = isFinished(status);
  const cancel = byId("cancel", HTMLButtonElement);
  cancel.hidden = finished;
  cancel.disabled = status === "cancelling";
  byId("retry").hidden = !(status === "failed" || status === "cancelled");
  byId("delete").hidden = !finished;
}

/** @param {RunState} state */
function drawFailure({ status, error }) {
  const box = byId("failure");
  box.hidden = status !== "failed";
  if (box.hidden) return;
  say(byId("failure-message"), error?.message ?? "The run failed.");
  const hint = error?.retryable ? "It may well work when it is tried again." : "";
  say(byId("failure-code"), error?.code ?? "");
  say(byId("failure-hint"), hint);
}
