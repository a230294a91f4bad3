// @ts-check
/** The question whether something is to be deleted for good. */
import { find } from "./dom.js";

export class Deletion {
  /** @type {(isWanted: boolean) => void} */
  #answer = () => {};

  /** @param {HTMLDialogElement} root */
  constructor(root) {
    this.root = root;
    this.title = find(root, "h2", HTMLElement);
    this.text = find(root, ".deletion-text", HTMLElement);
    root.addEventListener("close", () => {
      if (!root.open) this.#end(); // `close` comes late: the next question may be open by then
    });
  }

  /** @param {string} title @param {string} text @returns {Promise<boolean>}  whether it is */
  isWanted(title, text) {
    this.#end();
    this.title.textContent = title;
    this.text.textContent = text;
    this.root.returnValue = "keep";
    this.root.showModal();
    return new Promise((resolve) => {
      this.#answer = resolve;
    });
  }

  #end() {
    this.#answer(this.root.returnValue === "delete");
  }
}
