// @ts-check
/** Two buttons below a list, newest first, that turn its pages. */
import { find } from "./dom.js";

export class Pager {
  /** How many are newer than those on the page. */
  offset = 0;
  /** @type {number | null} */
  #next = null;

  /**
   * @param {HTMLElement} root
   * @param {{title: HTMLElement, first: number, others: number, onTurn: () => Promise<void>}} options  `title`: what stands
   *   above the list; `first`, `others`: how many the first page has, and each other; `onTurn`: shows the page
   */
  constructor(root, options) {
    this.options = options;
    this.newer = find(root, ".newer", HTMLButtonElement);
    this.older = find(root, ".older", HTMLButtonElement);
    this.newer.addEventListener("click", () => this.#turnTo(Math.max(0, this.offset - options.others)));
    this.older.addEventListener("click", () => this.#turnTo(this.#next ?? 0));
  }

  get limit() {
    return this.offset === 0 ? this.options.first : this.options.others;
  }

  /** @param {number | null} next  the next page's offset, as the service gives it */
  show(next) {
    this.#next = next;
    this.newer.hidden = this.offset === 0;
    this.older.hidden = next === null;
  }

  /** @param {number} offset */
  async #turnTo(offset) {
    this.offset = offset;
    await this.options.onTurn();
    const focused = document.activeElement;
    const hasStayed = focused === document.body || focused === this.newer || focused === this.older;
    if (hasStayed) this.options.title.focus(); // the button may have gone
  }
}
