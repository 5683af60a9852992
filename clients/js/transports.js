// The three ways to one run's frames: server-sent events, WebSocket, long-poll (PROTOCOL sections 4 to 6).
//
// Rule 1: a transport opens one connection, delivers its frames in order, each after the one before it was taken,
// and returns what it saw as an Outcome of the policy. It never throws, decides, waits or comes back.
// Rule 2: no timers here: the caller aborts a connection that it takes for dead.

import { problemOf } from "./api.js";
import { SseParser } from "./sse.js";

/** @typedef {import("./policy.js").Outcome} Outcome */
/** @typedef {{type: string, id?: string, [field: string]: any}} Frame An event, a control frame or a reply. */
/** @typedef {(type: string, fields: object) => Promise<any>} Command Resolves to the reply, or null without one. */

/**
 * `base` is the gateway's address ("" for the page's own); `wait_s`: how long a long-poll may wait; `commands` is
 * told of a way to send commands, and of its end (null).
 * @typedef {object} Target
 * @property {string} base
 * @property {string} run
 * @property {string | null} after
 * @property {string} replay
 * @property {string | null} token
 * @property {number} wait_s
 * @property {AbortSignal} signal
 * @property {(frame: Frame) => Promise<void>} deliver
 * @property {(command: Command | null) => void} commands
 * @property {typeof globalThis.fetch} fetch
 * @property {typeof globalThis.WebSocket} WebSocket
 */

/** @typedef {(target: Target) => Promise<Outcome>} Open */

/** @type {Open} */
async function overSse(target) {
  const response = await get(target, "text/event-stream", {});
  if (!(response instanceof Response)) return response;
  if (!response.headers.get("Content-Type")?.startsWith("text/event-stream") || !response.body) {
    return { type: "refused" };
  }
  const parser = new SseParser();
  const reader = response.body.getReader();
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return { type: "lost" };
      for (const message of parser.feed(value)) await target.deliver(JSON.parse(message.data));
    }
  } catch {
    return { type: "lost" };
  }
}

/** @type {Open} */
async function overPoll(target) {
  const began = Date.now();
  const response = await get(target, "application/json", { wait: String(target.wait_s) });
  if (!(response instanceof Response)) return response;
  /** @type {any} */
  const page = await response.json().catch(() => null);
  if (!Array.isArray(page?.events)) return { type: target.signal.aborted ? "lost" : "refused" };
  const { events, cursor, resume, done, retry_ms, heartbeat_ms } = page;
  if (resume === "gap" && events[0]?.type !== "gap") {
    await target.deliver({ type: "gap", run: target.run, after: target.after, from: events[0]?.id ?? cursor });
  }
  for (const event of events) await target.deliver(event);
  if (done) return { type: "terminal" };
  // A page may end in events that were left out; the next one starts after them.
  if (cursor) await target.deliver({ type: "cursor", cursor });
  const early = events.length === 0 && target.wait_s > 0 && Date.now() - began < target.wait_s * 500;
  return { type: "polled", retry_ms, heartbeat_ms, early };
}

/**
 * One GET of the run's events: the response, or what its failure comes to.
 * @param {Target} target
 * @param {string} accept
 * @param {Record<string, string>} query
 * @returns {Promise<Response | Outcome>}
 */
async function get({ base, run, after, replay, token, signal, fetch }, accept, query) {
  const parameters = new URLSearchParams({ replay, ...query, ...(after !== null && { after }) });
  const headers = { Accept: accept, ...(token && { Authorization: `Bearer ${token}` }) };
  const url = `${base}/runs/${encodeURIComponent(run)}/events?${parameters}`;
  try {
    const response = await fetch(url, { headers, signal, cache: "no-store" });
    if (response.status === 200) return response;
    const { retry_after_ms } = await problemOf(response);
    return { type: "status", status: response.status, retry_after_ms };
  } catch {
    return { type: "unreachable" };
  }
}

/** @type {Open} */
function overWebSocket({ base, run, after, replay, token, signal, deliver, commands, WebSocket }) {
  /** @type {WebSocket} */
  let socket;
  try {
    const url = new URL(`${base}/ws`, globalThis.location?.href);
    url.protocol = url.protocol.replace("http", "ws");
    socket = new WebSocket(url, "runcast.v1");
  } catch {
    return Promise.resolve({ type: "refused" }); // no WebSocket here, or the page's policy forbids it
  }
  /** @type {Map<string, (reply: any) => void>} */
  const waiting = new Map();
  let sent = 0;

  /** @type {Command} */
  const command = (type, fields) =>
    new Promise((resolve) => {
      if (socket.readyState !== socket.OPEN) return resolve(null);
      const ref = `c${++sent}`;
      waiting.set(ref, resolve);
      socket.send(JSON.stringify({ type, ref, ...fields }));
    });

  return new Promise((resolve) => {
    // Frames are taken one after the other, however fast they arrive; the end waits for them.
    let taken = Promise.resolve();
    let opened = false;
    let ended = false;
    /** @param {Outcome} outcome */
    const end = (outcome) => {
      // The socket's own close comes after an end that was decided here, when another may have taken its place.
      if (ended) return;
      ended = true;
      commands(null);
      for (const reply of waiting.values()) reply(null);
      waiting.clear();
      signal.removeEventListener("abort", leave);
      if (socket.readyState <= socket.OPEN) socket.close(1000);
      taken.then(() => resolve(outcome));
    };
    const leave = () => end({ type: "lost" });
    signal.addEventListener("abort", leave);

    socket.onopen = () => {
      opened = true;
      // Sent in one go, without waiting for the answers: they come in order.
      if (token !== null) command("authenticate", { token }).then(judge);
      command("subscribe", { run, replay, ...(after !== null && { after }) }).then(judge);
      commands(command);
    };
    /** @param {any} reply */
    const judge = (reply) => {
      if (reply && !reply.ok) end(refusal(reply.error));
    };
    socket.onmessage = ({ data }) => {
      /** @type {Frame} */
      let frame;
      try {
        frame = JSON.parse(data);
      } catch {
        return end({ type: "lost" });
      }
      if (frame.type === "reply") {
        waiting.get(frame["ref"])?.(frame);
        waiting.delete(frame["ref"]);
      }
      taken = taken.then(() => deliver(frame));
    };
    socket.onclose = ({ code }) => end(opened ? { type: "closed", code } : { type: "refused" });
    if (signal.aborted) leave();
  });
}

/**
 * What a refused `authenticate` or `subscribe` would have been over HTTP.
 * @param {{code: string, retryable: boolean, retry_after_ms?: number}} error
 * @returns {Outcome}
 */
function refusal({ code, retryable, retry_after_ms = undefined }) {
  if (code === "auth.forbidden") return { type: "status", status: 403 };
  if (code.startsWith("auth.")) return { type: "status", status: 401 };
  if (code === "run.not_found") return { type: "status", status: 404 };
  return retryable ? { type: "status", status: 503, retry_after_ms } : { type: "refused" };
}

/** @type {Readonly<Record<import("./policy.js").Transport, Open>>} */
export const OPEN = { sse: overSse, websocket: overWebSocket, poll: overPoll };
