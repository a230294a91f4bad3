// @ts-check
/** The recent runs, to pick the one to watch. */
import { problemOf, runs } from "./api.js";
import { element, find } from "./dom.js";
import * as format from "./format.js";
import { Poll } from "./poll.js";
import { isActive } from "./run-view.js";

/** @typedef {import("./api.js").RunSummary} RunSummary */

const PAGE = 6;
const MOST = 100; // that the service gives at once
const ACTIVE_MS = 4_000;
const QUIET_MS = 15_000;

export class RunList {
  #limit = PAGE;
  #poll = new Poll(() => this.refresh());
  /** @type {RunSummary[]} */
  #runs = [];

  /**
   * @param {HTMLElement} root
   * @param {{watched: () => string | undefined, onChoice: (id: string) => void, onList: (runs: RunSummary[]) => void}} options
   */
  constructor(root, options) {
    this.root = root;
    this.options = options;
    this.list = find(root, ".run-list", HTMLElement);
    this.older = find(root, ".older", HTMLButtonElement);
    this.older.addEventListener("click", () => {
      this.#limit = Math.min(MOST, this.#limit + 2 * PAGE);
      this.refresh();
    });
  }

  /** Asks again from time to time: others train on the same service. */
  async refresh() {
    this.#poll.stop();
    try {
      const { runs: recent, next_offset: next } = await runs(this.#limit);
      this.#runs = recent;
      this.older.hidden = next === null || this.#limit === MOST;
      this.options.onList(recent);
      this.show();
    } catch (cause) {
      problemOf(cause); // the list stays as it was; the page says elsewhere that the service is away
    } finally {
      this.#poll.askIn(this.#runs.some(isActive) ? ACTIVE_MS : QUIET_MS);
    }
  }

  /** Marks the watched run anew. */
  show() {
    this.root.hidden = this.#runs.length === 0;
    const focused = this.list.querySelector("button:focus")?.getAttribute("data-run");
    const rows = this.#runs.map((run) => this.#row(run));
    this.list.replaceChildren(...rows.map((button) => element("li", {}, button)));
    rows.find((button) => button.dataset.run === focused)?.focus({ preventScroll: true });
  }

  /** @param {RunSummary} run */
  #row(run) {
    const button = element(
      "button",
      { type: "button", class: "run", "data-run": run.id, "aria-current": String(run.id === this.options.watched()) },
      element("span", { class: "run-title" }, run.name),
      element("span", { class: "state", "data-state": run.state }, run.state),
      element("span", { class: "run-about" }, `${format.spec(run.spec)}${format.hard(" ·")} ${format.hard(when(run))}`),
    );
    button.addEventListener("click", () => this.options.onChoice(run.id));
    return button;
  }
}

/** @param {RunSummary} run */
const when = (run) => (run.state === "queued" && format.place(run)) || format.ago(run.created_at);
