// A real gateway in a process of its own, for the tests to talk to.

import { spawn } from "node:child_process";
import { createHmac, randomUUID } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, openSync, closeSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const SECRET = "test-secret-of-at-least-32-bytes-length";
const SCOPES = "runs:start runs:read runs:cancel runs:control runs:publish";

/** @param {{sub?: string, ttl_s?: number, scope?: string}} [claims] */
export function token({ sub = "alice", ttl_s = 600, scope = SCOPES } = {}) {
  const now = Date.now() / 1000;
  const parts = [{ alg: "HS256", typ: "JWT" }, { sub, scope, iat: Math.floor(now), exp: now + ttl_s, jti: randomUUID() }];
  const signed = parts.map((part) => Buffer.from(JSON.stringify(part)).toString("base64url")).join(".");
  return `${signed}.${createHmac("sha256", SECRET).update(signed).digest("base64url")}`;
}

/** @returns {Promise<number>} */
function freePort() {
  return new Promise((resolve) => {
    const probe = createServer().listen(0, "127.0.0.1", () => {
      const { port } = /** @type {import("node:net").AddressInfo} */ (probe.address());
      probe.close(() => resolve(port));
    });
  });
}

export class Gateway {
  port = 0;
  #folder = mkdtempSync(join(tmpdir(), "runcast-js-"));
  #settings;
  /** @type {import("node:child_process").ChildProcess | null} */
  #process = null;

  /** @param {Record<string, string | number>} [settings] become RUNCAST_* */
  constructor(settings = {}) {
    this.#settings = settings;
  }

  get url() {
    return `http://127.0.0.1:${this.port}`;
  }

  async start() {
    this.port ||= await freePort();
    /** @type {NodeJS.ProcessEnv} */
    const env = { ...process.env, PYTHONPATH: ROOT, RUNCAST_JWT_SECRET: SECRET, RUNCAST_PIPELINES: "tests.e2e.pipelines" };
    const settings = { broker: `sqlite:///${this.#folder}/runcast.db`, cancel_grace_s: 0.5, drain_s: 2, ...this.#settings };
    for (const [name, value] of Object.entries(settings)) env[`RUNCAST_${name.toUpperCase()}`] = `${value}`;
    const log = openSync(join(this.#folder, "gateway.log"), "a");
    const command = ["-m", "gateway", "serve", "--bind", `127.0.0.1:${this.port}`];
    const child = spawn(join(ROOT, ".venv/bin/python"), command, { env, cwd: this.#folder, stdio: ["ignore", log, log] });
    closeSync(log);
    this.#process = child;
    for (;;) {
      if (await fetch(`${this.url}/healthz`).then(({ ok }) => ok, () => false)) return this;
      if (child.exitCode !== null) throw new Error(`the gateway did not start:\n${this.output}`);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  get output() {
    return readFileSync(join(this.#folder, "gateway.log"), "utf8");
  }

  /** @param {NodeJS.Signals} [signal] @returns {Promise<void>} */
  stop(signal = "SIGKILL") {
    const child = this.#process;
    if (!child || child.exitCode !== null || child.signalCode !== null) return Promise.resolve();
    return new Promise((resolve) => {
      child.once("exit", () => resolve());
      child.kill(signal);
    });
  }

  async erase() {
    await this.stop();
    rmSync(this.#folder, { recursive: true, force: true });
  }
}
