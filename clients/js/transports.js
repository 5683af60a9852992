// The three ways to runs' frames: server-sent events, WebSocket, long-poll (PROTOCOL sections 4 to 6).
//
// Rule 1: a transport opens one connection, delivers its frames in order, each after the one before it was taken,
// and returns what it saw as an Outcome of the policy. It never throws, decides, waits or comes back.
// Rule 2: no timers here: the caller aborts a connection that it takes for dead.
// Rule 3: what is refused for one of several runs is said of that run (`gone`), and the others go on.

import { problemOf } from "./api.js";
import { SseParser } from "./sse.js";

/** @typedef {import("./policy.js").Outcome} Outcome */
/** @typedef {import("./api.js").Problem} Problem */
/** @typedef {{type: string, id?: string, [field: string]: any}} Frame An event, a control frame or a reply. */
/** @typedef {{run: string, cursor: string | null}} Join A run, and the cursor that it is joined from. */
/** @typedef {(type: string, fields: object) => Promise<any>} Command Resolves to the reply, or null without one. */

/**
 * What an open connection can take: commands, and another set of runs. Null: it can take neither.
 * @typedef {{command: Command, change: (joins: readonly Join[]) => void} | null} Controls
 */

/**
 * `base` is the gateway's address ("" for the page's own); `wait_s`: how long a long-poll may wait. `deliver` gives
 * a promise when the frame takes time; `gone`: this run is not there; `refused`: why the outcome is a refusal.
 * @typedef {object} Target
 * @property {string} base
 * @property {readonly Join[]} joins
 * @property {string} replay
 * @property {string | null} token
 * @property {number} wait_s
 * @property {AbortSignal} signal
 * @property {(frame: Frame) => Promise<void> | void} deliver
 * @property {(run: string) => void} gone
 * @property {(problem: Problem) => void} refused
 * @property {(controls: Controls) => void} controls
 * @property {typeof globalThis.fetch} fetch
 * @property {typeof globalThis.WebSocket} WebSocket
 */

/** @typedef {(target: Target) => Promise<Outcome>} Open */

const STREAM = "text/event-stream";
/** The most runs that one stream takes (PROTOCOL section 4); a WebSocket takes any number. */
const MOST_RUNS = 32;

/** @type {Open} */
async function overSse(target) {
  const { joins, deliver } = target;
  const [first] = joins;
  if (!first || joins.length > MOST_RUNS) return { type: "refused" };
  const one = joins.length === 1;
  const after = joins.map(({ cursor }) => cursor ?? "0").join("~");
  const response = await get(target, one ? pathOf(first.run) : "/events", {
    accept: STREAM,
    query: [...(one ? [] : joins.map(({ run }) => ["run", run])), ...(/[^0~]/.test(after) ? [["after", after]] : [])],
  });
  if (!(response instanceof Response)) {
    return !one && response.type === "status" && response.status === 404 ? sift(target) : response;
  }
  if (!response.headers.get("Content-Type")?.startsWith(STREAM) || !response.body) return { type: "refused" };
  const parser = new SseParser();
  const reader = response.body.getReader();
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return { type: "lost" };
      for (const message of parser.feed(value)) {
        const taking = deliver(JSON.parse(message.data));
        if (taking) await taking;
      }
    }
  } catch {
    return { type: "lost" };
  }
}

/** One of several runs is not there: find out which, and begin without it. @type {Open} */
async function sift(target) {
  let found = false;
  for (const { run } of target.joins) {
    const response = await get(target, pathOf(run), { accept: STREAM, method: "HEAD" });
    if (response instanceof Response || response.type !== "status" || response.status !== 404) continue;
    target.gone(run);
    found = true;
  }
  return { type: found ? "begin" : "lost" };
}

/** @param {string} run */
export function pathOf(run) {
  return `/runs/${encodeURIComponent(run)}/events`;
}

/**
 * One request for events: the response, or what its failure comes to.
 * @param {Target} target
 * @param {string} path
 * @param {{accept: string, query?: string[][], method?: string}} asked
 * @returns {Promise<Response | Outcome>}
 */
export async function get({ base, replay, token, signal, fetch, refused }, path, { accept, query = [], method = "GET" }) {
  const headers = { Accept: accept, ...(token && { Authorization: `Bearer ${token}` }) };
  const url = `${base + path}?${new URLSearchParams([["replay", replay], ...query])}`;
  try {
    const response = await fetch(url, { method, headers, signal, cache: "no-store" });
    if (response.status === 200) return response;
    const problem = await problemOf(response);
    const { status, retry_after_ms } = problem;
    if (method === "GET") {
      // A refusal in other words than the gateway's comes from something between: it speaks of this way, not of the run.
      if ((status === 403 || status === 404) && problem.code.startsWith("http.")) return { type: "refused" };
      refused(problem);
    }
    return { type: "status", status, retry_after_ms };
  } catch {
    return { type: "unreachable" };
  }
}

// Most pages never need them, so they come later; but they are fetched while the way is still open.
const websocket = () => import("./websocket.js");
const polling = () => import("./polling.js");

/** Have the other ways at hand. */
export function preload() {
  websocket().catch(() => {});
  polling().catch(() => {});
}

/** @type {Readonly<Record<import("./policy.js").Transport, Open>>} */
export const OPEN = {
  sse: overSse,
  websocket: async (target) => (await websocket()).overWebSocket(target),
  poll: async (target) => (await polling()).overPoll(target),
};
