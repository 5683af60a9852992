// What `import … from "runcast"` gives.

export { Problem } from "./api.js";
export { Client } from "./client.js";
export { Run } from "./run.js";
export { isFinished } from "./state.js";
