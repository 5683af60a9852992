// A run's state as a fold over its events (PROTOCOL sections 2 and 4): what `GET /runs/{id}` answers, grown live.
//
// Rule 1: pure. `apply` gives a new state and changes nothing; unknown types and fields pass by.
// Rule 2: the same rules as the gateway's own fold, so a state read from it and one grown here are the same. Beyond
// it, `stages` and `inputs` are kept, which only events tell.

/** @typedef {{type: string, run: string, id: string, ts: number, [field: string]: any}} RunEvent */
/** @typedef {"queued" | "running" | "paused" | "cancelling" | "completed" | "failed" | "cancelled"} RunStatus */
/** @typedef {{stage: string, index: number, of: number, done: boolean}} StageState */
/** @typedef {{input_id: string, prompt: string, schema?: any}} InputRequest */
/** @typedef {{code: string, message: string, retryable: boolean, incident?: string}} RunError */

/**
 * Times are Unix milliseconds. `inputs`: the questions that nobody has answered yet.
 * @typedef {object} RunState
 * @property {string} id
 * @property {string} pipeline
 * @property {string | null} owner
 * @property {RunStatus} status
 * @property {number | null} created_at
 * @property {number | null} started_at
 * @property {number | null} finished_at
 * @property {string | null} stage
 * @property {string | null} message
 * @property {number} progress
 * @property {Readonly<Record<string, string>>} blocks
 * @property {Readonly<Record<string, string>>} drafts
 * @property {any} result
 * @property {RunError | null} error
 * @property {Record<string, any> | null} usage
 * @property {string | null} tail
 * @property {readonly StageState[]} stages
 * @property {readonly InputRequest[]} inputs
 */

/** @type {Readonly<Record<string, RunStatus>>} */
const STATUS_AFTER = {
  "run.queued": "queued",
  "run.started": "running",
  "run.paused": "paused",
  "run.resumed": "running",
  "run.cancelling": "cancelling",
  "run.completed": "completed",
  "run.failed": "failed",
  "run.cancelled": "cancelled",
};
const TERMINAL = new Set(["completed", "failed", "cancelled"]);

/** @param {string} status */
export function isFinished(status) {
  return TERMINAL.has(status);
}

/** @param {string} type */
export function isTerminal(type) {
  return Object.hasOwn(STATUS_AFTER, type) && isFinished(STATUS_AFTER[type] ?? "");
}

/**
 * The state before any event.
 * @param {Partial<RunState>} [known] what `GET /runs/{id}` answered, to go on from there
 * @returns {RunState}
 */
export function initialState(known = {}) {
  return {
    id: "",
    pipeline: "",
    owner: null,
    status: "queued",
    created_at: null,
    started_at: null,
    finished_at: null,
    stage: null,
    message: null,
    progress: 0,
    blocks: {},
    drafts: {},
    result: null,
    error: null,
    usage: null,
    tail: null,
    stages: [],
    inputs: [],
    ...known,
  };
}

/**
 * @param {RunState} state
 * @param {RunEvent} event
 * @returns {RunState}
 */
export function apply(state, event) {
  return { ...state, ...change(state, event), id: event.run, tail: event.id };
}

/** @param {RunState} state @param {RunEvent} event @returns {Partial<RunState>} */
function change(state, event) {
  switch (event.type) {
    case "delta":
      return { blocks: { ...state.blocks, [event.block]: own(state.blocks, event.block) + event.delta } };
    case "progress":
      return heard(state, event);
    case "draft":
      return { ...heard(state, event), drafts: { ...state.drafts, [event.stage]: event.draft } };
    case "stage.started":
    case "stage.completed":
      return staged(state, event);
    case "input.requested":
      return { inputs: [...without(state.inputs, event.input_id), /** @type {any} */ (event)] };
    case "input.received":
      return { inputs: without(state.inputs, event.input_id) };
    default:
      return Object.hasOwn(STATUS_AFTER, event.type) ? lifecycle(state, event) : {};
  }
}

/** @param {RunState} state @param {RunEvent} event @returns {Partial<RunState>} */
function heard(state, event) {
  return {
    stage: event.stage,
    message: event.message ?? state.message,
    progress: event.progress ?? state.progress,
  };
}

/** @param {RunState} state @param {RunEvent} event @returns {Partial<RunState>} */
function staged(state, { type, stage, index, of }) {
  const done = type === "stage.completed";
  const others = state.stages.filter((other) => other.stage !== stage);
  const stages = [...others, { stage, index, of, done }].sort((a, b) => a.index - b.index);
  return done ? { stages } : { stages, stage };
}

/** @param {RunState} state @param {RunEvent} event @returns {Partial<RunState>} */
function lifecycle(state, event) {
  const status = STATUS_AFTER[event.type] ?? state.status;
  if (event.type === "run.queued") {
    return { status, created_at: event.ts, pipeline: event.pipeline, owner: event.owner };
  }
  if (event.type === "run.started") return { status, started_at: event.ts };
  if (!isFinished(status)) return { status };
  return {
    status,
    finished_at: event.ts,
    result: event.result ?? null,
    error: event.error ?? null,
    usage: event.usage ?? null,
    inputs: [],
  };
}

/**
 * A block may be named like a member that every object has.
 * @param {Readonly<Record<string, string>>} texts
 * @param {string} name
 */
function own(texts, name) {
  return Object.hasOwn(texts, name) ? texts[name] : "";
}

/** @param {readonly InputRequest[]} inputs @param {string} id */
function without(inputs, id) {
  return inputs.filter((input) => input.input_id !== id);
}
