// Where the console's token comes from: the gateway itself (development), or the person in front of it.
//
// Rule 1: a token that a person gave is kept in sessionStorage, for this tab and no longer, and never in a URL.
// Rule 2: whoever needs a token while the person is being asked waits for the same answer.

import { say } from "../js/elements/dom.js";
import { byId } from "./page.js";

const KEY = "runcast.token";
// A development token is renewed this long before it ends.
const MARGIN_MS = 30_000;

export class TokenSource {
  /** @type {"unknown" | "development" | "person"} */
  #source = "unknown";
  #token = sessionStorage.getItem(KEY);
  #expiresAt = 0;
  /** The answer that is being waited for. @type {Promise<string> | null} */
  #pending = null;

  constructor() {
    byId("sign-out").addEventListener("click", () => {
      sessionStorage.removeItem(KEY);
      location.reload();
    });
  }

  /** @type {import("../js/api.js").GetToken} */
  get = ({ refresh }) => {
    if (this.#pending) return this.#pending;
    if (this.#token && !refresh && this.#source !== "unknown" && Date.now() < this.#expiresAt) {
      return Promise.resolve(this.#token);
    }
    this.#pending = this.#renew(refresh).finally(() => (this.#pending = null));
    return this.#pending;
  };

  /** @param {boolean} refresh */
  async #renew(refresh) {
    if (this.#source !== "person") {
      const response = await fetch("/console/token", { cache: "no-store" });
      if (response.ok) {
        const { token, expires_in } = await response.json();
        this.#source = "development";
        this.#expiresAt = Date.now() + expires_in * 1000 - MARGIN_MS;
        return (this.#token = token);
      }
      // Anything else than a clear no may pass: the caller tries again later.
      if (response.status !== 404 && response.status !== 403) throw new Error(`no token: ${response.status}`);
    }
    this.#source = "person";
    this.#expiresAt = Infinity;
    if (!this.#token || refresh) this.#token = await ask(this.#token !== null);
    sessionStorage.setItem(KEY, this.#token);
    byId("sign-out").hidden = false;
    return this.#token;
  }
}

/**
 * Ask the person; there is no way round an answer.
 * @param {boolean} again the one before was refused
 * @returns {Promise<string>}
 */
function ask(again) {
  const dialog = byId("sign-in", HTMLDialogElement);
  const input = byId("token", HTMLInputElement);
  const form = byId("sign-in-form", HTMLFormElement);
  say(byId("sign-in-error"), again ? "The token was refused, has expired or soon will. Please enter another one." : "");
  input.value = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.oncancel = (event) => event.preventDefault();
    form.onsubmit = (event) => {
      event.preventDefault();
      const token = input.value.trim().replace(/^Bearer\s+/i, "");
      if (!token) return say(byId("sign-in-error"), "Please enter a token.");
      input.value = "";
      dialog.close();
      resolve(token);
    };
  });
}
