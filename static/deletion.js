// @ts-check
/** The question whether something is to be deleted for good. */
import { find } from "./dom.js";

export class Deletion {
  /** @param {HTMLDialogElement} root */
  constructor(root) {
    this.root = root;
    this.title = find(root, "h2", HTMLElement);
    this.text = find(root, ".deletion-text", HTMLElement);
  }

  /** @param {string} title @param {string} text @returns {Promise<boolean>}  whether it is */
  async isWanted(title, text) {
    this.title.textContent = title;
    this.text.textContent = text;
    this.root.returnValue = "keep";
    this.root.showModal();
    await new Promise((resolve) => this.root.addEventListener("close", resolve, { once: true }));
    return this.root.returnValue === "delete";
  }
}
