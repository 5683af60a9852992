// A gateway (PROTOCOL sections 3 to 7) that answers by chance: late, with a refusal, or never; and what ends its
// connections or holds them up.
//
// Modelled: SSE of one run and several, WebSocket, long-polls, states; latency, refusals, requests without an answer,
// slow clients, connections that break or fall silent, tokens that expire with a warning or without, drains.

import { Exchange } from "./exchange.js";
import { Log } from "./log.js";
import { Poll, pageOf } from "./polling.js";
import { EventStream } from "./sse.js";
import { Token } from "./tokens.js";
import { socketsOf } from "./websocket.js";

/** @typedef {import("./world.js").World} World */
/** @typedef {import("./served.js").Served} Served */
/**
 * `refuses`, `hangs`: how likely a request is refused, or never answered.
 * @typedef {{refuses: number, hangs: number}} Odds
 */

const LATENCY_MS = 60;
const STUTTERS = 0.05;

export class Gateway {
  calm = false;
  requests = 0;
  /** @type {Set<Served>} */
  open = new Set();
  /** @type {Map<string, Log>} */
  logs = new Map();
  /** @type {Map<string, Token>} */
  #tokens = new Map();
  #world;

  /** @param {World} world @param {Odds} [odds] */
  constructor(world, odds = { refuses: 0.1, hangs: 0.03 }) {
    this.#world = world;
    this.odds = odds;
    this.WebSocket = socketsOf(this, world);
  }

  get clock() {
    return this.#world.clock;
  }

  latency() {
    return Math.max(0, this.#world.random() - 0.2) * LATENCY_MS;
  }

  /** Whether it says the last event again. */
  stutters() {
    return this.#world.unlucky(STUTTERS);
  }

  /** @param {Token} token */
  write(token) {
    const text = `token-${this.#tokens.size}`;
    this.#tokens.set(text, token);
    return text;
  }

  /** @param {string} text */
  read(text) {
    return this.#tokens.get(text) ?? null;
  }

  /** @param {string} id */
  begin(id) {
    const log = new Log(id);
    this.logs.set(id, log);
    return log;
  }

  /** The runs that are sent to anybody. */
  get followed() {
    return new Set([...this.open].flatMap(({ feeds }) => [...feeds.keys()]));
  }

  /** From now on nothing goes wrong. */
  calmDown() {
    this.calm = true;
    for (const served of [...this.open]) served.goOn();
  }

  /** @type {typeof globalThis.fetch} */
  fetch = (url, sent) => {
    this.requests++;
    const exchange = new Exchange(this, `${url}`, /** @type {any} */ (sent));
    this.#world.say(`tab ${exchange.tab?.id ?? 0}`, `${exchange}`);
    if (this.#world.unlucky(this.odds.hangs)) this.#world.say("no answer will come");
    else this.clock.later(this.latency(), () => this.#receive(exchange));
    return exchange.promise;
  };

  /** @param {Exchange} exchange */
  #receive(exchange) {
    const { path, query, token, tab } = exchange;
    if (exchange.over || tab?.dead) return;
    if (this.#world.unlucky(this.odds.refuses)) {
      if (this.#world.odds(0.5)) return exchange.fail();
      return exchange.refuse(503, "server.busy", { retry_after_ms: this.#world.below(500) });
    }
    if (!token?.good) return exchange.refuse(401, "auth.expired");
    const [, one, events] = /^\/runs\/([^/]+)(\/events)?$/.exec(path) ?? [];
    const logs = (one ? [one] : query.getAll("run")).map((id) => this.logs.get(id));
    if (!present(logs)) exchange.refuse(404, "run.not_found");
    else if (exchange.method === "HEAD") exchange.answer(200, null);
    else if (exchange.streamed) this.#stream(exchange, logs);
    else if (events) this.#poll(exchange, /** @type {Log} */ (logs[0]));
    else exchange.answer(200, logs[0]?.state() ?? null);
  }

  /** @param {Exchange} exchange @param {Log[]} logs */
  #stream(exchange, logs) {
    const afters = exchange.query.get("after")?.split("~") ?? [];
    const joins = logs.map((log, at) => ({ log, after: afters[at] ?? null }));
    if (joins.every(({ log, after }) => log.endsAt(after))) exchange.answer(204, null);
    else new EventStream(this, exchange, joins);
  }

  /** @param {Exchange} exchange @param {Log} log */
  #poll(exchange, log) {
    const after = exchange.query.get("after");
    const { at, gap } = log.join(after);
    const waits = exchange.wait_ms > 0 && !gap && !log.done && at === log.tail;
    if (waits) new Poll(this, exchange, log);
    else exchange.answer(200, pageOf(log, after, exchange.replay));
  }

  /** Something happens to one of the connections. */
  disturb() {
    if (!this.open.size) return;
    const served = this.#world.one(this.open);
    const often = [this.#slow, this.#slow, this.#slow, this.#cut, this.#cut];
    const what = this.#world.one([...often, this.#silence, this.#expire, this.#warn, this.#drain]);
    what.call(this, served);
  }

  /** @param {Served} served */
  #slow(served) {
    this.#world.say("slow:", `${served}`);
    served.slowDown(this.#world.below(400));
  }

  /** @param {Served} served */
  #cut(served) {
    this.#world.say("breaks:", `${served}`);
    served.cut();
  }

  /** @param {Served} served */
  #silence(served) {
    this.#world.say("falls silent:", `${served}`);
    served.end();
  }

  /** @param {Served} served */
  #expire({ token }) {
    if (!token?.holder.mayExpire) return;
    token.holder.issue();
    this.#expired(token);
  }

  /** @param {Served} served */
  #warn(served) {
    const { token } = served;
    if (!token?.holder.mayExpire) return;
    token.holder.issue();
    const ms = this.#world.below(600);
    this.#world.say("the token ends soon:", `${served}`);
    served.send({ type: "auth.expiring", expires_at: this.clock.now + ms });
    this.clock.later(ms, () => this.#expired(token));
  }

  /** @param {Token} token */
  #expired({ holder }) {
    this.#world.say("a token has expired");
    holder.expire();
    for (const served of [...this.open]) if (!served.token?.good && served.token?.holder === holder) served.cut(4200);
  }

  /** @param {Served} served */
  #drain(served) {
    this.#world.say("is drained:", `${served}`);
    served.send({ type: "reconnect", after_ms: this.#world.below(500), reason: "server.draining" });
    this.clock.later(this.#world.below(200), () => served.cut(4100));
  }
}

/** @param {(Log | undefined)[]} logs @returns {logs is Log[]} */
function present(logs) {
  return logs.every(Boolean);
}
