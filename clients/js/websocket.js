// One WebSocket for any number of runs (PROTOCOL section 6); one of the transports, under their rules.

import { Problem } from "./api.js";
import { isTerminal } from "./state.js";

/** @typedef {import("./transports.js").Command} Command */
/** @typedef {import("./policy.js").Outcome} Outcome */

/** @type {import("./transports.js").Open} */
export function overWebSocket({ base, joins, replay, token, signal, deliver, gone, refused, controls, WebSocket }) {
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
  /** Each run's subscription, by its command; what comes before that is answered belongs to an earlier one. @type {Map<string, {ref: string, begun: boolean}>} */
  const subscribed = new Map();
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
    // Frames are taken one after the other, however fast they arrive; the end waits for them. After one that could not
    // be taken there is none.
    /** @type {Promise<unknown>} */
    let taken = Promise.resolve();
    let opened = false;
    let ended = false;
    /** @param {Outcome} outcome */
    const end = (outcome) => {
      // The socket's own close comes after an end that was decided here, when another may have taken its place.
      if (ended) return;
      ended = true;
      controls(null);
      for (const reply of waiting.values()) reply(null);
      waiting.clear();
      signal.removeEventListener("abort", leave);
      if (socket.readyState <= socket.OPEN) socket.close(1000);
      taken.catch(() => {}).then(() => resolve(outcome));
    };
    const leave = () => end({ type: "lost" });
    /** @param {import("./transports.js").Frame} frame */
    const take = (frame) => {
      const run = frame.type === "reply" ? undefined : frame["run"];
      const subscription = subscribed.get(run);
      if (run && !subscription?.begun) return;
      taken = taken.then(() => {
        if (subscribed.get(run) !== subscription) return; // it was given up meanwhile
        if (frame["done"] || isTerminal(frame.type)) subscribed.delete(run);
        return deliver(frame);
      });
      taken.catch(leave);
    };
    signal.addEventListener("abort", leave);

    /** @param {any} reply @param {string} [run] */
    const judge = (reply, run) => {
      if (!reply || reply.ok) return;
      if (run && reply.error.code === "run.not_found") {
        subscribed.delete(run);
        gone(run);
      } else {
        refused(new Problem(reply.error));
        end(refusal(reply.error));
      }
    };
    /** @param {readonly import("./transports.js").Join[]} wanted */
    const change = (wanted) => {
      for (const run of subscribed.keys()) {
        if (!wanted.some((join) => join.run === run)) {
          subscribed.delete(run);
          command("unsubscribe", { run });
        }
      }
      for (const { run, cursor } of wanted) {
        if (subscribed.has(run)) continue;
        const subscription = { ref: `c${sent + 1}`, begun: false };
        subscribed.set(run, subscription);
        command("subscribe", { run, replay, ...(cursor && { after: cursor }) }).then((reply) => {
          if (subscribed.get(run) !== subscription) return;
          judge(reply, run);
          if (reply?.done) take({ type: "cursor", run, done: true });
        });
      }
    };

    socket.onopen = () => {
      opened = true;
      // Sent in one go, without waiting for the answers: they come in order.
      if (token) command("authenticate", { token }).then((reply) => judge(reply));
      change(joins);
      controls({ command, change });
    };
    socket.onmessage = ({ data }) => {
      /** @type {import("./transports.js").Frame} */
      let frame;
      try {
        frame = JSON.parse(data);
      } catch {
        return leave();
      }
      if (frame.type === "reply") {
        for (const one of subscribed.values()) one.begun ||= one.ref === frame["ref"];
        waiting.get(frame["ref"])?.(frame);
        waiting.delete(frame["ref"]);
      }
      take(frame);
    };
    socket.onerror = () => {}; // the close that follows says more; some implementations throw what nobody hears
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
  if (code === "input.invalid") return { type: "status", status: 422 };
  return retryable ? { type: "status", status: 503, retry_after_ms } : { type: "refused" };
}
