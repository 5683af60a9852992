// What the pictures' buttons ask for: the next run, made from what this one has come to.

import { recalled } from "./started.js";

/** @typedef {(pipeline: string, input: unknown, options: object) => Promise<void>} Start */

/**
 * @param {import("../js/run.js").Run} run
 * @param {string} action
 * @param {string} argument
 * @param {Start} start
 */
export async function follow(run, action, argument, start) {
  const { result } = run.state;
  const { input = {}, options = {} } = recalled(run.id) ?? {};
  if (action === "write") {
    const { topic, doc_id, outline } = result;
    return start("generation", { topic, doc_id, outline, documents: input.documents ?? [] }, options);
  }
  // Without its sources a campaign is written anew from its proof points; the review says what it could not check.
  const sources = input.sources ?? [];
  const campaign = { operation: action, campaign: result, sources };
  return start("campaign", action === "regenerate" ? { ...campaign, channel: argument } : campaign, options);
}
