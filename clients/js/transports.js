// The three ways to runs' frames: server-sent events, WebSocket, long-poll (PROTOCOL sections 4 to 6).
//
// Rule 1: a transport opens one connection, delivers its frames in order, each after the one before it was taken,
// and returns what it saw as an Outcome of the policy. It never throws, decides, waits or comes back.
// Rule 2: no timers here: the caller aborts a connection that it takes for dead.
// Rule 3: what is refused for one of several runs is said of that run (`gone`), and the others go on.

import { overPoll } from "./polling.js";
import { overSse } from "./streaming.js";
import { overWebSocket } from "./websocket.js";

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

/** @type {Readonly<Record<import("./policy.js").Transport, Open>>} */
export const OPEN = { sse: overSse, websocket: overWebSocket, poll: overPoll };
