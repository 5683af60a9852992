// The models by name, and the seeds of each that are wrong: `node tests/js/model/models.js NAME SEED [COUNT] [trace]`
// tells of COUNT seeds from SEED on, one line of JSON for each that is wrong and one for all; `trace` tells what happens.

import { argv } from "node:process";
import { fileURLToPath } from "node:url";
import { clientModel, tabsModel } from "./clients.js";
import { connectionModel } from "./connection.js";

/** @typedef {import("./world.js").Options} Options */
/** @typedef {(seed: number, options: Options) => Promise<string | null>} Model the law that was broken, if any */

/** @param {readonly import("./world.js").Transport[]} transports @returns {Model} */
const over = (...transports) => (seed, options) => connectionModel(seed, { ...options, transports });

/** @type {Readonly<Record<string, Model>>} */
export const MODELS = {
  sse: over("sse"),
  websocket: over("websocket"),
  poll: over("poll"),
  connection: connectionModel,
  client: clientModel,
  tabs: tabsModel,
};

/** @param {string} name @param {number} seed @param {Options} [options] */
export async function play(name, seed, options = {}) {
  const model = MODELS[name];
  if (!model) throw new Error(`no such model: ${name}; there are ${Object.keys(MODELS).join(", ")}`);
  const law = await model(seed, options);
  return law && `${law}\n  again, with all that happens: node tests/js/model/models.js ${name} ${seed} 1 trace`;
}

if (argv[1] === fileURLToPath(import.meta.url)) {
  const [name = "", from = "0", count = "1", ...asked] = argv.slice(2);
  let wrong = 0;
  for (let seed = Number(from); seed < Number(from) + Number(count); seed++) {
    const law = await play(name, seed, { trace: asked.includes("trace") });
    if (law) console.log(JSON.stringify({ model: name, seed, law: law.split("\n")[0] }));
    wrong += law ? 1 : 0;
  }
  console.log(JSON.stringify({ model: name, seeds: Number(count), wrong }));
  process.exitCode = wrong ? 1 : 0;
}
