// Tokens: each is good until the next one is issued and it has expired.
//
// A token expires only after a frame has come to the client under it, and not soon after the one before: two that are
// refused in a row rightly end a connection, and nobody could follow anything.

/** @typedef {import("./world.js").World} World */

const SHORTEST_LIFE_MS = 5_000;
const ODDS = { slow: 0.3, fails: 0.02 };

export class Token {
  #holder;

  /** @param {Holder} holder @param {number} number */
  constructor(holder, number) {
    this.#holder = holder;
    this.number = number;
  }

  get good() {
    return this.number >= this.#holder.oldest;
  }

  get holder() {
    return this.#holder;
  }

  prove() {
    this.#holder.proven = Math.max(this.#holder.proven, this.number);
  }
}

/** Whoever has tokens: one client. */
export class Holder {
  oldest = 1;
  proven = 0;
  #newest = 1;
  #expiredAt = 0;
  #world;

  /** @param {World} world */
  constructor(world) {
    this.#world = world;
  }

  /** Whether its token may end now. */
  get mayExpire() {
    return this.proven === this.#newest && this.#world.clock.now - this.#expiredAt >= SHORTEST_LIFE_MS;
  }

  /** There is another one. */
  issue() {
    this.#newest++;
    this.#expiredAt = this.#world.clock.now;
  }

  /** All but the newest are good no more. */
  expire() {
    this.oldest = this.#newest;
  }

  /**
   * @param {{fails: boolean}} how whether there may be none for now
   * @returns {import("../../../clients/js/api.js").GetToken}
   */
  source({ fails }) {
    const world = this.#world;
    let held = this.#newest;
    return async ({ refresh }) => {
      if (world.unlucky(ODDS.slow)) await new Promise((resolve) => setTimeout(resolve, world.below(300)));
      if (fails && world.unlucky(ODDS.fails)) throw new Error("no token for now");
      if (refresh) held = this.#newest;
      return world.gateway.write(new Token(this, held));
    };
  }
}
