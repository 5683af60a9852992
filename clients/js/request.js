// One request for a run's events, as the transports over HTTP make it.

import { problemOf } from "./api.js";

/** @typedef {import("./policy.js").Outcome} Outcome */
/** @typedef {import("./transports.js").Target} Target */

const FINAL = [400, 403, 404, 422];

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
      if (FINAL.includes(status) && problem.code.startsWith("http.")) return { type: "refused" };
      refused(problem);
    }
    return { type: "status", status, retry_after_ms };
  } catch {
    return { type: "unreachable" };
  }
}
