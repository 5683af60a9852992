// What a client does next (PROTOCOL section 9): connect, wait, fall back, stop.
//
// Rule 1: a pure function of (state, outcome, now, random). No clock, no dice, no I/O, so the same cases hold every
// language's client to it; the names are in the protocol's spelling for that reason.
// Rule 2: an outcome says what was seen, never what to do about it. All that follows from it is decided here.
// Rule 3: nothing loops without a bound or a delay: falling back ends at the last transport, a token is refreshed
// once until a frame has come, and everything else counts as a failure.

/** @typedef {"sse" | "websocket" | "poll"} Transport */
/** @typedef {"connecting" | "connected" | "retrying" | "disconnected" | "error"} Status */

/**
 * `worked`: the transport of the last hello. `fell_back_at`: when the first transport was given up (Unix ms).
 * `after_ms`: what the server's `reconnect` asked for. `refreshed`: a fresh token was fetched and no frame came since.
 * `expiring`: the server said that the token ends soon.
 * @typedef {object} State
 * @property {Status} status
 * @property {readonly Transport[]} transports
 * @property {Transport} transport
 * @property {Transport | null} worked
 * @property {number | null} fell_back_at
 * @property {number} failures
 * @property {number} max_retries
 * @property {number} retry_ms
 * @property {number} heartbeat_ms
 * @property {number | null} after_ms
 * @property {boolean} refreshed
 * @property {boolean} expiring
 */

/**
 * - `begin`: also when the connection was ended here, to be opened for other runs; `attempt`: one is now being opened
 * - `hello`; `frame`: any frame after it, but no reply that refuses; `polled`: a long-poll was answered (`early`:
 *   empty, long before its time)
 * - `reconnect`, `expiring`: those control frames; `renewed`: the connection has a fresh token
 * - `refused`: this transport cannot be had; `open_timeout`: no hello in time
 * - `unreachable`: no answer at all, whatever the transport; `lost`: ended, or silent for too long
 * - `status`: an HTTP status instead of a stream; `closed`: a WebSocket close code
 * - `terminal`: the terminal event came; `aborted`: the caller has enough
 * @typedef {{type: "begin" | "attempt" | "frame" | "expiring" | "renewed" | "refused" | "open_timeout" | "unreachable"
 *     | "lost" | "terminal" | "aborted"}
 *   | {type: "hello", retry_ms: number, heartbeat_ms: number}
 *   | {type: "polled", retry_ms: number, heartbeat_ms: number, early: boolean}
 *   | {type: "reconnect", after_ms: number}
 *   | {type: "status", status: number, retry_after_ms?: number | null}
 *   | {type: "closed", code: number}} Outcome
 */

/** @typedef {"terminal" | "aborted" | "unauthorized" | "forbidden" | "not_found" | "protocol" | "exhausted"} Reason */

/**
 * `refresh` alone: fetch a fresh token and use it on the open connection if it can be.
 * @typedef {{do: "connect", transport: Transport, delay_ms: number, refresh: boolean}
 *   | {do: "refresh"} | {do: "stop", reason: Reason} | {do: "none"}} Action
 */

/** @typedef {readonly [State, Action]} Decision */
/** @typedef {{now: number, random: number}} Chance `now` in Unix ms, `random` in [0, 1) */

/** @type {readonly Transport[]} */
export const TRANSPORTS = ["sse", "websocket", "poll"];
export const OPEN_TIMEOUT_MS = 5_000;
const MAX_DELAY_MS = 30_000;
const PROBE_AFTER_MS = 600_000;
const SILENT_HEARTBEATS = 2.5;
const TRUST_FOR_FAILURES = 4;

/** @type {Action} */
const NONE = { do: "none" };

/**
 * @param {Partial<Pick<State, "transports" | "worked" | "fell_back_at" | "max_retries" | "retry_ms">>} [known]
 * @returns {State}
 */
export function initial({
  transports = TRANSPORTS,
  worked = null,
  fell_back_at = null,
  max_retries = 10,
  retry_ms = 1_000,
} = {}) {
  const remembered = worked && transports.includes(worked) ? worked : null;
  return {
    status: "connecting",
    transports,
    transport: remembered ?? first(transports),
    worked: remembered,
    fell_back_at: remembered && fell_back_at,
    failures: 0,
    max_retries,
    retry_ms,
    heartbeat_ms: 15_000,
    after_ms: null,
    refreshed: false,
    expiring: false,
  };
}

/** How long a connection may be silent before it is taken for dead. @param {State} state */
export function silenceMs(state) {
  return SILENT_HEARTBEATS * state.heartbeat_ms;
}

/**
 * @param {State} state
 * @param {Outcome} outcome
 * @param {Chance} chance
 * @returns {Decision}
 */
export function decide(state, outcome, chance) {
  switch (outcome.type) {
    case "begin":
      return connect(state, chance, 0);
    case "attempt":
      // Between two long-polls the client is as connected as it gets.
      return [state.status === "connected" ? state : { ...state, status: "connecting" }, NONE];
    case "hello":
      return [greeted(state, outcome), NONE];
    case "frame":
      return [alive(state), NONE];
    case "polled": {
      const polled = alive(greeted(state, outcome));
      return connect(polled, chance, outcome.early ? chance.random * polled.retry_ms : 0);
    }
    case "reconnect":
      return [{ ...alive(state), after_ms: outcome.after_ms }, NONE];
    case "expiring":
      return [{ ...alive(state), expiring: true }, { do: "refresh" }];
    case "renewed":
      return [{ ...state, expiring: false }, NONE];
    case "refused":
    case "open_timeout":
      return fallBack(state, chance);
    case "unreachable":
      return fail(elsewhere(state, chance), chance, null);
    case "lost":
      return ended(state, chance);
    case "status":
      return answered(state, outcome, chance);
    case "closed":
      if (outcome.code === 4200) return freshToken(state, chance);
      return outcome.code >= 4000 && outcome.code <= 4099 ? stop(state, "protocol") : ended(state, chance);
    case "terminal":
    case "aborted":
      return stop(state, outcome.type);
  }
}

/** @param {State} state @param {{retry_ms: number, heartbeat_ms: number}} hello @returns {State} */
function greeted(state, { retry_ms, heartbeat_ms }) {
  const told = { ...state, retry_ms, heartbeat_ms, after_ms: null, expiring: false };
  return { ...told, status: "connected", worked: state.transport };
}

/** @param {State} state @returns {State} */
function alive(state) {
  return state.failures || state.refreshed ? { ...state, failures: 0, refreshed: false } : state;
}

/**
 * @param {State} state
 * @param {{status: number, retry_after_ms?: number | null}} answer
 * @param {Chance} chance
 * @returns {Decision}
 */
function answered(state, { status, retry_after_ms = null }, chance) {
  if (status === 204) return stop(state, "terminal");
  if (status === 401) return freshToken(state, chance);
  if (status === 403) return stop(state, "forbidden");
  if (status === 404) return stop(state, "not_found");
  if (status === 400 || status === 422) return stop(state, "protocol"); // wrong in itself, on every way
  const transient = status === 408 || status === 429 || status >= 500;
  return transient && status !== 501 ? fail(state, chance, retry_after_ms) : fallBack(state, chance);
}

/** @param {State} state @param {Chance} chance @returns {Decision} */
function ended(state, chance) {
  return state.expiring ? freshToken(state, chance) : fail(state, chance, null);
}

/** @param {State} state @param {Chance} chance @returns {Decision} */
function freshToken(state, chance) {
  if (state.refreshed) return stop(state, "unauthorized");
  const next = { ...state, refreshed: true, expiring: false };
  return connect({ ...next, status: "connecting" }, chance, state.after_ms ?? 0, true);
}

/**
 * No answer says nothing about the transport, so the next attempt is made with one that is known to work. When none is,
 * or not for long, it may be this way alone that is cut: then each has its turn.
 * @param {State} state
 * @param {Chance} chance
 * @returns {State}
 */
function elsewhere(state, { now }) {
  const known = state.failures < TRUST_FOR_FAILURES ? state.worked : null;
  const transport = known ?? after(state) ?? first(state.transports);
  return { ...state, transport, fell_back_at: transport === first(state.transports) ? null : (state.fell_back_at ?? now) };
}

/** @param {State} state @returns {Transport | undefined} */
function after(state) {
  return state.transports[state.transports.indexOf(state.transport) + 1];
}

/** @param {State} state @param {Chance} chance @returns {Decision} */
function fallBack(state, chance) {
  const next = after(state);
  if (!next) return fail({ ...state, transport: first(state.transports), fell_back_at: null }, chance, null);
  return connect({ ...state, status: "connecting", transport: next, fell_back_at: chance.now }, chance, 0);
}

/**
 * @param {State} state
 * @param {Chance} chance
 * @param {number | null} retryAfterMs
 * @returns {Decision}
 */
function fail(state, chance, retryAfterMs) {
  const failures = state.failures + 1;
  if (failures >= state.max_retries) return stop({ ...state, failures }, "exhausted");
  const ceiling = Math.min(MAX_DELAY_MS, state.retry_ms * 2 ** state.failures);
  const delay = retryAfterMs ?? state.after_ms ?? chance.random * ceiling;
  return connect({ ...state, status: "retrying", failures }, chance, delay);
}

/**
 * @param {State} state
 * @param {Chance} chance
 * @param {number} delay_ms
 * @param {boolean} [refresh]
 * @returns {Decision}
 */
function connect(state, chance, delay_ms, refresh = false) {
  const best = first(state.transports);
  const probe = state.fell_back_at !== null && chance.now + delay_ms - state.fell_back_at >= PROBE_AFTER_MS;
  const next = { ...state, after_ms: null, ...(probe && { transport: best, fell_back_at: null }) };
  return [next, { do: "connect", transport: next.transport, delay_ms: Math.round(delay_ms), refresh }];
}

/** @param {State} state @param {Reason} reason @returns {Decision} */
function stop(state, reason) {
  const status = reason === "terminal" || reason === "aborted" ? "disconnected" : "error";
  return [{ ...state, status }, { do: "stop", reason }];
}

/** @param {readonly Transport[]} transports @returns {Transport} */
function first(transports) {
  return transports[0] ?? "sse";
}
