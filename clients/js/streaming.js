// Server-sent events by fetch, for one run or several (PROTOCOL section 5); one of the transports, under their rules.

import { get, pathOf } from "./request.js";
import { SseParser } from "./sse.js";

/** @typedef {import("./transports.js").Open} Open */

const STREAM = "text/event-stream";
/** The most runs that one stream takes (PROTOCOL section 4); a WebSocket takes any number. */
const MOST_RUNS = 32;

/** @type {Open} */
export async function overSse(target) {
  const { joins, deliver, signal } = target;
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
  // Node leaves a reader waiting that is aborted just when the response has ended.
  signal.addEventListener("abort", () => reader.cancel().catch(() => {}));
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
