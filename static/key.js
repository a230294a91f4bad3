// @ts-check
/** The key that a service with keys wants: asked for once, and kept in this browser until the service refuses it or somebody
 * has it forgotten. */
import { find, say } from "./dom.js";
import { storage } from "./storage.js";

const NAME = "inkling-key";

export class KeyDialog {
  /** While it is open, whoever needs a key waits for the same one. @type {Promise<string> | null} */
  #asking = null;

  /** @param {HTMLDialogElement} root @param {HTMLButtonElement} forget  there while a key is kept */
  constructor(root, forget) {
    this.root = root;
    this.forget = forget;
    this.field = find(root, "input", HTMLInputElement);
    this.message = find(root, ".message", HTMLElement);
    find(root, "[type=button]", HTMLButtonElement).addEventListener("click", () => root.close(""));
    forget.addEventListener("click", () => {
      this.#keep("");
      location.reload(); // and what else the page knows of whoever had it
    });
    forget.hidden = !this.known;
  }

  /** The key of an earlier visit; empty: there is none. */
  get known() {
    return storage("localStorage")?.getItem(NAME) ?? "";
  }

  /** @param {string} refused  the key that was sent; empty: none was @returns {Promise<string>}  empty: none was given */
  ask(refused) {
    if (this.known === refused) this.#keep("");
    else if (this.known) return Promise.resolve(this.known); // it was given meanwhile, perhaps in another tab
    this.#asking ??= this.#open(refused).finally(() => (this.#asking = null));
    return this.#asking;
  }

  /** @param {string} refused */
  async #open(refused) {
    say(this.message, refused && "The service does not know this key.");
    this.root.returnValue = "";
    this.root.showModal();
    await new Promise((resolve) => this.root.addEventListener("close", resolve, { once: true }));
    const key = this.root.returnValue === "given" ? this.field.value.trim() : "";
    this.field.value = "";
    if (key) this.#keep(key);
    return key;
  }

  /** @param {string} key  empty: none */
  #keep(key) {
    if (key) storage("localStorage")?.setItem(NAME, key);
    else storage("localStorage")?.removeItem(NAME);
    this.forget.hidden = !this.known;
  }
}
