// Requests to the gateway, and what it refuses as an Error (PROTOCOL sections 4 and 8).
//
// Rule 1: a token travels in the Authorization header, never in a URL.
// Rule 2: whatever goes wrong arrives as a Problem, also when the gateway was never reached or something between
// answered in its place.

/** @typedef {{path: (string | number)[], message: string}} FieldError */

/**
 * `refresh`: the token that was used last is no good.
 * @typedef {(want: {refresh: boolean}) => Promise<string | null>} GetToken
 */

export class Problem extends Error {
  /** @override */
  name = "Problem";

  /** @param {{code: string, title: string, status?: number, detail?: string, retryable?: boolean,
   *   retry_after_ms?: number | null, errors?: FieldError[], incident?: string}} document */
  constructor({ code, title, status = 0, detail, retryable = false, retry_after_ms = null, errors = [], incident }) {
    super(detail || title);
    this.code = code;
    this.title = title;
    this.status = status;
    this.detail = detail ?? null;
    this.retryable = retryable;
    this.retry_after_ms = retry_after_ms;
    this.errors = errors;
    this.incident = incident ?? null;
  }
}

/**
 * Read a refusal. Consumes the body.
 * @param {Response} response
 * @returns {Promise<Problem>}
 */
export async function problemOf(response) {
  const { status } = response;
  const seconds = Number(response.headers.get("Retry-After") ?? NaN);
  const retry_after_ms = Number.isFinite(seconds) ? seconds * 1000 : null;
  const retryable = status === 429 || status === 502 || status === 503 || status === 504;
  /** @type {any} */
  const document = await response.json().catch(() => null);
  if (typeof document?.code === "string") {
    return new Problem({ retry_after_ms, ...document, title: document.title ?? document.code, status });
  }
  const title = `The server answered ${status} ${response.statusText}`.trim();
  return new Problem({ code: `http.${status}`, title, status, retryable, retry_after_ms });
}

/**
 * @typedef {(method: string, path: string, sent?: {body?: unknown, headers?: Record<string, string>,
 *   signal?: AbortSignal}) => Promise<any>} Call
 */

// What is only read is there at once: a request without an answer went out on a connection that is dead and does not know it.
const READ_TIMEOUT_MS = 30_000;

/**
 * A function that makes one request and gives the answer's JSON (null when there is none). A 401 is tried once more
 * with a fresh token. Throws Problem; an abort stays an AbortError. A GET has 30 seconds.
 * @param {{base?: string, getToken: GetToken, fetch?: typeof globalThis.fetch}} options
 * @returns {Call}
 */
export function createApi({ base = "", getToken, fetch = globalThis.fetch.bind(globalThis) }) {
  /** @type {Call} */
  async function call(method, path, sent = {}) {
    if (method !== "GET") return once(method, path, sent);
    const { signal } = sent;
    const ending = new AbortController();
    const end = () => ending.abort(signal?.reason);
    const timer = setTimeout(end, READ_TIMEOUT_MS);
    signal?.addEventListener("abort", end);
    if (signal?.aborted) end();
    try {
      return await once(method, path, sent, ending.signal);
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener("abort", end);
    }
  }

  /** @param {string} method @param {string} path @param {NonNullable<Parameters<Call>[2]>} sent @param {AbortSignal} [ending] */
  async function once(method, path, { body, headers = {}, signal }, ending) {
    /** @param {boolean} refresh */
    const send = async (refresh) => {
      const token = await getToken({ refresh });
      try {
        return await fetch(base + path, {
          method,
          headers: {
            Accept: "application/json",
            ...(token && { Authorization: `Bearer ${token}` }),
            ...(body !== undefined && { "Content-Type": "application/json" }),
            ...headers,
          },
          body: body === undefined ? undefined : JSON.stringify(body),
          cache: "no-store",
          signal: ending ?? signal,
        });
      } catch (error) {
        if (signal?.aborted) throw error;
        throw new Problem({ code: "network", title: "The gateway cannot be reached", retryable: true });
      }
    };
    let response = await send(false);
    if (response.status === 401) response = await send(true);
    if (!response.ok) throw await problemOf(response);
    if (response.status === 204) return null;
    return response.json().catch((error) => {
      if (signal?.aborted) throw error;
      throw new Problem({ code: "network", title: "The answer broke off or is not JSON", retryable: true });
    });
  }
  return call;
}

// A refusal that asks for more time than this is for the caller to see.
const PATIENCE_MS = 5_000;

/**
 * Try again what may be tried again: no answer came, or one that says so. Throws what the last one threw.
 * @template T
 * @param {() => Promise<T>} work
 * @param {{tries: number, signal?: AbortSignal}} how
 * @returns {Promise<T>}
 */
export async function persist(work, { tries, signal }) {
  for (let failures = 1; ; failures++) {
    try {
      return await work();
    } catch (error) {
      if (!(error instanceof Problem) || !error.retryable || failures >= tries) throw error;
      const ms = error.retry_after_ms ?? Math.min(PATIENCE_MS, 500 * failures * Math.random());
      if (ms > PATIENCE_MS) throw error;
      await pause(ms, signal);
    }
  }
}

/** @param {number} ms @param {AbortSignal} [signal] */
function pause(ms, signal) {
  return new Promise((resolve) => {
    const go = () => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", go);
      resolve(null);
    };
    const timer = setTimeout(go, ms);
    signal?.addEventListener("abort", go);
  });
}
