// Server-sent events, as the gateway has them (PROTOCOL section 5): one run or several over one response.

import { HELLO, Served } from "./served.js";

/** @typedef {{log: import("./log.js").Log, after: string | null}} Join */

const encoder = new TextEncoder();

export class EventStream extends Served {
  #wire;
  #gone = false;
  /** @type {ReadableStreamDefaultController<Uint8Array> | null} */
  #bytes = null;

  /**
   * @param {import("./gateway.js").Gateway} gateway
   * @param {import("./exchange.js").Exchange} exchange
   * @param {readonly Join[]} joins
   */
  constructor(gateway, exchange, joins) {
    super(gateway, exchange.tab, exchange.token);
    this.#wire = exchange.wire;
    const body = new ReadableStream({ start: (bytes) => void (this.#bytes = bytes) }, { highWaterMark: Infinity });
    exchange.signal?.addEventListener("abort", () => {
      this.#leave(exchange.signal?.reason);
      gateway.clock.later(gateway.latency(), () => this.end());
    });
    exchange.respond(() => new Response(body, { headers: { "Content-Type": "text/event-stream" } }));
    this.send({ ...HELLO, resume: "start" });
    this.beat();
    for (const { log, after } of joins) this.follow(log, { after, replay: exchange.replay });
    this.goOn();
  }

  /** @override @param {object} frame */
  put(frame) {
    this.#wire(this.gateway.latency(), () => {
      if (this.#gone) return;
      this.#bytes?.enqueue(encoder.encode(`data: ${JSON.stringify(frame)}\n\n`));
      // A hello alone earns nothing.
      if (!("version" in frame)) this.proven();
    });
  }

  /** @override */
  finished() {
    if (!this.feeds.size) this.cut(1000);
  }

  /** @override @param {number} code */
  close(code) {
    this.#wire(this.gateway.latency(), () => this.#leave(code === 1006 ? new TypeError("terminated") : null));
  }

  /** @param {unknown} reason why it broke, or null for an end */
  #leave(reason) {
    if (this.#gone) return;
    this.#gone = true;
    if (reason) this.#bytes?.error(reason);
    else this.#bytes?.close();
  }
}
