// Long-polls, the way of last resort (PROTOCOL section 4); one of the transports, under their rules.

import { get, pathOf } from "./request.js";

/** @type {import("./transports.js").Open} */
export async function overPoll(target) {
  const { joins, deliver, signal } = target;
  const one = joins.length === 1;
  const began = Date.now();
  // Several are asked for one after the other, none of them waiting: a host gets six connections in all.
  const wait_s = one ? target.wait_s : 0;
  /** @type {any} */
  let page;
  let silent = true;
  for (const { run, cursor: after } of joins) {
    const response = await get(target, pathOf(run), {
      accept: "application/json",
      query: [["wait", `${wait_s}`], ...(after ? [["after", after]] : [])],
    });
    if (!(response instanceof Response)) {
      if (one || response.type !== "status" || response.status !== 404) return response;
      target.gone(run);
      continue;
    }
    page = await response.json().catch(() => null);
    if (!Array.isArray(page?.events)) return { type: signal.aborted ? "lost" : "refused" };
    const { events, cursor, resume, done } = page;
    silent &&= events.length === 0;
    if (resume === "gap" && events[0]?.type !== "gap") {
      await deliver({ type: "gap", run, after, from: events[0]?.id ?? cursor });
    }
    for (const event of events) await deliver(event);
    // A page may end in events that were left out; the next one starts after them.
    await deliver({ type: "cursor", run, cursor, done });
  }
  if (!page) return { type: "begin" };
  const { retry_ms, heartbeat_ms } = page;
  const early = silent && (!one || (wait_s > 0 && Date.now() - began < wait_s * 500));
  return { type: "polled", retry_ms, heartbeat_ms, early };
}

