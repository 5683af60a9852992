// What happened in a run, told by its events: the stages, calls, questions and costs that the folded state leaves out.
//
// Rule 1: no page and no clock here: events in, a story out. An event that is not known passes by.
// Rule 2: bounded: texts stay in the state, and of what may come without end the newest are kept.

/** @typedef {import("../state.js").RunEvent} RunEvent */

/** Times are Unix ms; `ended` is null while it lasts. @typedef {{began: number, ended: number | null}} Span */
/** @typedef {Span & {stage: string, index: number, of: number, done: boolean}} StageSpan */
/**
 * `name`: the model or the tool.
 * @typedef {Span & {kind: "llm" | "tool", call: string, name: string, args?: any, result?: any, error?: any,
 *   estimated_cost_usd?: number, cost_usd?: number, usage?: any}} Call
 */
/** @typedef {Span & {input_id: string, prompt: string}} Question */

/**
 * `stats`: the last that `progress` told; `custom`: the run's own `x.` events; `cites` and `complete` go by block.
 * @typedef {object} Story
 * @property {number | null} began
 * @property {number | null} ended
 * @property {number | null} last when the latest event came
 * @property {string | null} reason why it was cancelled
 * @property {StageSpan[]} stages
 * @property {Call[]} calls
 * @property {Question[]} questions
 * @property {Span[]} pauses
 * @property {{code: string, message: string, ts: number}[]} warnings
 * @property {{limit_usd: number, exceeded: boolean} | null} budget
 * @property {number} spent_usd
 * @property {Record<string, any>} stats
 * @property {Map<string, {key: string, source: string}[]>} cites
 * @property {Set<string>} complete
 * @property {RunEvent[]} custom
 */

const MOST = 1_000;

/** @returns {Story} */
export function beginning() {
  return {
    began: null,
    ended: null,
    last: null,
    reason: null,
    stages: [],
    calls: [],
    questions: [],
    pauses: [],
    warnings: [],
    budget: null,
    spent_usd: 0,
    stats: {},
    cites: new Map(),
    complete: new Set(),
    custom: [],
  };
}

/** Go on with the story. Changes it. @param {Story} story @param {RunEvent} event */
export function tell(story, event) {
  const { ts } = event;
  story.began ??= ts;
  story.last = ts;
  switch (event.type) {
    case "run.started":
      story.began = ts;
      break;
    case "run.paused":
      keep(story.pauses, { began: ts, ended: null });
      break;
    case "run.resumed":
      end(story.pauses, () => true, ts);
      break;
    case "stage.started": {
      const { stage, index, of } = event;
      keep(story.stages, { stage, index, of, done: false, began: ts, ended: null });
      break;
    }
    case "stage.completed": {
      const span = end(story.stages, ({ stage }) => stage === event.stage, ts);
      if (span) span.done = true;
      break;
    }
    case "progress":
      if (event.stats) story.stats = { ...story.stats, ...event.stats };
      break;
    case "delta":
      written(story, event);
      break;
    case "llm.started":
    case "tool.started":
      keep(story.calls, called(event));
      break;
    case "llm.completed":
    case "tool.completed":
      answered(story, event);
      break;
    case "budget.warning":
    case "budget.exceeded":
      story.budget = { limit_usd: event.limit_usd, exceeded: event.type === "budget.exceeded" };
      story.spent_usd = Math.max(story.spent_usd, event.spent_usd);
      break;
    case "input.requested":
      keep(story.questions, { input_id: event.input_id, prompt: event.prompt, began: ts, ended: null });
      break;
    case "input.received":
      end(story.questions, ({ input_id }) => input_id === event.input_id, ts);
      break;
    case "warning":
      keep(story.warnings, { code: event.code, message: event.message, ts });
      break;
    case "run.cancelling":
      story.reason = event.reason ?? null;
      break;
    case "run.completed":
    case "run.failed":
    case "run.cancelled":
      story.reason = event.reason ?? null;
      story.ended = ts;
      for (const spans of [story.stages, story.calls, story.questions, story.pauses]) {
        for (const span of spans) span.ended ??= ts;
      }
      break;
    default:
      if (event.type.startsWith("x.")) keep(story.custom, event);
  }
}

/** @param {RunEvent} event @returns {Call} */
function called(event) {
  const { type, call, ts, args, estimated_cost_usd } = event;
  const kind = type.startsWith("llm") ? "llm" : "tool";
  return { kind, call, name: event.model ?? event.tool, args, estimated_cost_usd, began: ts, ended: null };
}

/** @param {Story} story @param {RunEvent} event */
function answered(story, event) {
  const { ts, result, error, usage, cost_usd } = event;
  const kind = event.type.startsWith("llm") ? "llm" : "tool";
  const call = end(story.calls, (other) => other.kind === kind && other.call === event.call, ts);
  if (call) Object.assign(call, { result, error, usage, cost_usd });
  story.spent_usd += cost_usd ?? 0;
}

/** @param {Story} story @param {RunEvent} event */
function written({ cites, complete }, { block, cites: fresh, done }) {
  if (done) complete.add(block);
  if (!Array.isArray(fresh)) return;
  const known = cites.get(block) ?? [];
  cites.set(block, known);
  for (const { key, source } of fresh) {
    if (known.length < MOST && !known.some((other) => other.key === key)) known.push({ key, source });
  }
}

/** @template Kind @param {Kind[]} kept @param {Kind} one */
function keep(kept, one) {
  kept.push(one);
  if (kept.length > MOST) kept.shift();
}

/**
 * End the newest open one that fits, and give it.
 * @template {Span} Kind
 * @param {Kind[]} spans
 * @param {(span: Kind) => boolean} fits
 * @param {number} ts
 */
function end(spans, fits, ts) {
  for (let place = spans.length - 1; place >= 0; place--) {
    const span = spans[place];
    if (!span || span.ended !== null || !fits(span)) continue;
    span.ended = ts;
    return span;
  }
  return null;
}
