// @ts-check
/** The runs, to pick the one to watch. */
import { problemOf, runs } from "./api.js";
import { element, find } from "./dom.js";
import * as format from "./format.js";
import { Pager } from "./pager.js";
import { Poll } from "./poll.js";
import { isActive } from "./run-view.js";

/** @typedef {import("./api.js").RunSummary} RunSummary */

const NEWEST = 6; // that everybody's page asks for, again and again
const PAGE = 24;
const ACTIVE_MS = 4_000;
const QUIET_MS = 15_000;

export class RunList {
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
    this.title = find(root, "h3", HTMLElement);
    this.pager = new Pager(root, { title: this.title, first: NEWEST, others: PAGE, onTurn: () => this.refresh() });
  }

  /** Where the newest run is. */
  showNewest() {
    this.pager.offset = 0;
    this.refresh();
  }

  /** Asks again from time to time: others train on the same service. */
  async refresh() {
    this.#poll.stop();
    const { limit, offset } = this.pager;
    try {
      const { runs: page, next_offset: next } = await runs(limit, offset);
      if (offset !== this.pager.offset) return; // another page is asked for meanwhile
      if (page.length === 0 && offset > 0) return this.showNewest(); // all that were here have been deleted
      this.#runs = page;
      this.pager.show(next);
      this.options.onList(page);
      this.show();
    } catch (cause) {
      problemOf(cause); // the list stays as it was; the page says elsewhere that the service is away
    } finally {
      this.#poll.askIn(offset === 0 && this.#runs.some(isActive) ? ACTIVE_MS : QUIET_MS);
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
