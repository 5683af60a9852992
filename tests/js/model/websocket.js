// WebSockets (PROTOCOL section 6): the class that a client uses, and the gateway's end of each.

import { currentTab } from "./clock.js";
import { HELLO, Served } from "./served.js";

/** @typedef {import("./gateway.js").Gateway} Gateway */
/** @typedef {import("./world.js").World} World */
/** @typedef {{type: string, ref: string, run: string, token: string, after?: string, replay: string}} Command */

const [CONNECTING, OPEN, CLOSING, CLOSED] = [0, 1, 2, 3];
/** Of commands, beside what befalls any connection. */
const REFUSES_SUBSCRIPTION = 0.025;

/** @param {Gateway} gateway @param {World} world @returns {typeof globalThis.WebSocket} */
export function socketsOf(gateway, world) {
  class Bound extends Socket {
    constructor() {
      super(gateway, world);
    }
  }
  return /** @type {any} */ (Bound);
}

class Socket {
  OPEN = OPEN;
  readyState = CONNECTING;
  onopen = () => {};
  onmessage = (/** @type {{data: string}} */ _message) => {};
  onclose = (/** @type {{code: number}} */ _close) => {};
  /** @type {EndOfSocket | null} */
  #served = null;
  #world;
  #up;
  #down;

  /** @param {Gateway} gateway @param {World} world */
  constructor(gateway, world) {
    const tab = currentTab();
    this.#world = world;
    this.#up = gateway.clock.wire();
    this.#down = gateway.clock.wire(tab);
    gateway.requests++;
    world.say(`tab ${tab?.id ?? 0} opens a WebSocket`);
    if (world.unlucky(gateway.odds.hangs)) return;
    this.#down(2 * gateway.latency(), () => {
      if (this.readyState !== CONNECTING) return;
      if (world.unlucky(gateway.odds.refuses)) return this.closed(1006);
      this.readyState = OPEN;
      this.#served = new EndOfSocket(gateway, world, this);
      this.onopen();
    });
  }

  /** @param {string} text */
  send(text) {
    if (this.readyState !== OPEN) throw new Error("not open");
    this.#world.say("sends", text);
    this.#up(this.#world.gateway.latency(), () => this.#served?.take(JSON.parse(text)));
  }

  close() {
    if (this.readyState >= CLOSING) return;
    this.readyState = CLOSING;
    this.#up(this.#world.gateway.latency(), () => this.#served?.end());
    this.goingDown(() => this.closed(1000));
  }

  /** @param {() => void} work */
  goingDown(work) {
    this.#down(this.#world.gateway.latency(), work);
  }

  /** @param {number} code */
  closed(code) {
    if (this.readyState === CLOSED) return;
    this.readyState = CLOSED;
    this.onclose({ code });
  }
}

class EndOfSocket extends Served {
  #socket;
  #world;

  /** @param {Gateway} gateway @param {World} world @param {Socket} socket */
  constructor(gateway, world, socket) {
    super(gateway, currentTab(), null);
    this.#world = world;
    this.#socket = socket;
    this.send(HELLO);
    this.beat();
  }

  /** @override @param {object} frame */
  put(frame) {
    const socket = this.#socket;
    socket.goingDown(() => {
      if (socket.readyState === CLOSED) return;
      if (socket.readyState === OPEN && "ok" in frame && frame.ok) this.proven();
      socket.onmessage({ data: JSON.stringify(frame) });
    });
  }

  /** @override @param {number} code */
  close(code) {
    this.#socket.goingDown(() => this.#socket.closed(code));
  }

  /** @param {Command} command */
  take(command) {
    if (this.ended) return;
    if (command.type === "authenticate") this.#authenticate(command);
    else if (!this.token) this.#refuse(command, "auth.missing");
    else if (command.type === "subscribe") this.#subscribe(command);
    else {
      if (command.type === "unsubscribe") this.leave(command.run);
      this.#reply(command);
    }
  }

  /** @param {Command} command */
  #authenticate(command) {
    const token = this.gateway.read(command.token);
    if (token?.good) {
      this.token = token;
      this.#reply(command);
    } else {
      this.#refuse(command, "auth.expired");
      this.cut(4200);
    }
  }

  /** @param {Command} command */
  #subscribe(command) {
    const log = this.gateway.logs.get(command.run);
    if (!log) return this.#refuse(command, "run.not_found");
    if (this.#world.unlucky(REFUSES_SUBSCRIPTION)) return this.#refuse(command, "server.busy");
    const after = command.after ?? null;
    const done = log.endsAt(after);
    this.#reply(command, { resume: log.join(after).resume, ...(done && { done }) });
    if (done) this.leave(log.id);
    else this.follow(log, { after, replay: command.replay }).pump();
  }

  /** @param {Command} command @param {object} [more] */
  #reply({ ref }, more) {
    this.send({ type: "reply", ref, ok: true, ...more });
  }

  /** @param {Command} command @param {string} code */
  #refuse({ ref }, code) {
    this.send({ type: "reply", ref, ok: false, error: { code, title: code, retryable: code === "server.busy" } });
  }
}
