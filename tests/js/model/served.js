// A connection as the gateway has it, whatever its transport, and the runs that it streams.
//
// Modelled: heartbeats; a slow client, for whom nothing is queued and the log is read when it has room; a lost log,
// which ends the connection; the last event said again, which a client drops; and that each end may be known to one
// side alone.

/** @typedef {import("./gateway.js").Gateway} Gateway */
/** @typedef {import("./log.js").Log} Log */
/** @typedef {import("./tokens.js").Token} Token */
/** @typedef {import("./clock.js").Tab} Tab */
/** @typedef {{after: string | null, replay: string}} Wish */

export const HEARTBEAT_MS = 2_000;
export const RETRY_MS = 100;
export const HELLO = { type: "hello", connection: "c", version: 1, heartbeat_ms: HEARTBEAT_MS, retry_ms: RETRY_MS };

export class Served {
  slow = false;
  ended = false;
  /** @type {Map<string, Feed>} */
  feeds = new Map();
  /** @type {import("./clock.js").Timer | undefined} */
  #beat;

  /** @param {Gateway} gateway @param {Tab | null} tab @param {Token | null} token */
  constructor(gateway, tab, token) {
    this.gateway = gateway;
    this.tab = tab;
    this.token = token;
    gateway.open.add(this);
  }

  toString() {
    return `${this.constructor.name} of tab ${this.tab?.id ?? 0} with ${[...this.feeds.keys()].join(" and ") || "nothing"}`;
  }

  /** On its way to the client. @param {object} _frame */
  put(_frame) {}

  /** The client is told of the end. @param {number} _code */
  close(_code) {}

  /** A run has come to its end. */
  finished() {}

  /** @param {object} frame */
  send(frame) {
    if (!this.ended) this.put(frame);
  }

  /** The client has a frame: its token is good. */
  proven() {
    this.token?.prove();
  }

  /** @param {number} [code] */
  cut(code = 1006) {
    if (this.ended) return;
    this.end();
    this.close(code);
  }

  /** What the gateway does when it has ended; the client need not know. */
  end() {
    if (this.ended) return;
    this.ended = true;
    this.gateway.open.delete(this);
    if (this.#beat) this.#beat.cancelled = true;
    for (const feed of this.feeds.values()) feed.end();
    this.feeds.clear();
  }

  beat() {
    if (this.ended) return;
    this.#beat = this.gateway.clock.later(HEARTBEAT_MS, () => {
      this.send({ type: "heartbeat", ts: 1 });
      this.beat();
    });
  }

  /** @param {number} ms */
  slowDown(ms) {
    this.slow = true;
    this.gateway.clock.later(ms, () => this.goOn());
  }

  goOn() {
    this.slow = false;
    for (const feed of [...this.feeds.values()]) feed.pump();
  }

  /** @param {Log} log @param {Wish} wish */
  follow(log, wish) {
    this.leave(log.id);
    const feed = new Feed(this, log, wish);
    this.feeds.set(log.id, feed);
    return feed;
  }

  /** @param {string} run */
  leave(run) {
    this.feeds.get(run)?.end();
    this.feeds.delete(run);
  }
}

/** One run on one connection. */
class Feed {
  #served;
  #log;
  #epoch;
  #at;
  #replay;
  #live = false;
  #ended = false;

  /** @param {Served} served @param {Log} log @param {Wish} wish */
  constructor(served, log, { after, replay }) {
    const { at, gap } = log.join(after);
    this.#served = served;
    this.#log = log;
    this.#epoch = log.epoch;
    this.#at = at;
    this.#replay = replay;
    log.watchers.add(this.pump);
    if (gap) served.send(log.gap(after));
    else if (at > log.floor && served.gateway.stutters()) served.send(log.eventAt(at));
  }

  pump = () => {
    const [served, log] = [this.#served, this.#log];
    if (this.#ended) return;
    if (log.epoch !== this.#epoch) return served.cut(1011);
    if (served.slow) {
      this.#live = false;
      return;
    }
    if (this.#at < log.floor) {
      served.send(log.gap(`${this.#epoch}-${this.#at}`));
      this.#at = log.floor;
      this.#live = false;
    }
    while (this.#at < log.tail) {
      for (const event of log.read(this.#at, this.#live ? "full" : this.#replay)) {
        served.send(event);
        this.#at = Number(event.id.split("-")[1]);
      }
    }
    this.#live = true;
    if (!log.done) return;
    served.leave(log.id);
    served.finished();
  };

  end() {
    this.#ended = true;
    this.#log.watchers.delete(this.pump);
  }
}
