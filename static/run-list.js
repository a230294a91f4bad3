// @ts-check
/** The runs, to pick the one to watch. */
import { problemOf, runs } from "./api.js";
import { arrange, element, find } from "./dom.js";
import * as format from "./format.js";
import { Latest } from "./latest.js";
import { hasLearned } from "./model-choice.js";
import { Pager } from "./pager.js";
import { Poll } from "./poll.js";
import { isActive } from "./run-record.js";

/** @typedef {import("./api.js").Model} Model */
/** @typedef {import("./api.js").RunSummary} RunSummary */

const NEWEST = 6; // that everybody's page asks for, again and again
const PAGE = 24;
const ACTIVE_MS = 4_000;
const QUIET_MS = 15_000;

export class RunList {
  #poll = new Poll(() => this.refresh());
  /** @type {RunSummary[]} */
  #runs = [];
  /** By the run's id. @type {Map<string, HTMLLIElement>} */
  #rows = new Map();
  #latest = new Latest();

  /**
   * @param {HTMLElement} root
   * @param {{watched: () => string | undefined, modelOf: (run: RunSummary) => Model | undefined,
   *   onChoice: (id: string) => void, onList: (runs: RunSummary[]) => void}} options
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
    const isLatest = this.#latest.ask();
    const { limit, offset } = this.pager;
    try {
      const { runs: page, next_offset: next } = await runs(limit, offset);
      if (!isLatest()) return;
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

  /** Marks the watched run anew, and says how good the models are that are known. */
  show() {
    this.root.hidden = this.#runs.length === 0;
    const hadFocus = this.list.contains(document.activeElement);
    this.#rows = new Map(this.#runs.map((run) => [run.id, this.#rows.get(run.id) ?? this.#row(run)]));
    arrange(this.list, [...this.#rows.values()]);
    for (const run of this.#runs) this.#fill(/** @type {HTMLLIElement} */ (this.#rows.get(run.id)), run);
    if (hadFocus && !this.list.contains(document.activeElement)) this.title.focus({ preventScroll: true });
  }

  /** @param {RunSummary} run */
  #row({ id }) {
    const button = element(
      "button",
      { type: "button", class: "run", "data-run": id },
      element("span", { class: "run-title" }),
      element("span", { class: "state" }),
      element("span", { class: "run-about" }),
    );
    button.addEventListener("click", () => this.options.onChoice(id));
    return element("li", {}, button);
  }

  /** @param {HTMLLIElement} row @param {RunSummary} run */
  #fill(row, run) {
    const state = find(row, ".state", HTMLElement);
    find(row, "button", HTMLButtonElement).setAttribute("aria-current", String(run.id === this.options.watched()));
    find(row, ".run-title", HTMLElement).textContent = run.name;
    const model = this.options.modelOf(run);
    state.dataset.state = model && !hasLearned(model) ? "unlearned" : run.state;
    state.textContent = model ? `${format.percent(model.scores.accuracy)} right` : run.state;
    const about = [run.user, format.spec(run.spec), format.hard(when(run))].filter(Boolean);
    find(row, ".run-about", HTMLElement).textContent = about.join(`${format.hard(" ·")} `);
  }
}

/** @param {RunSummary} run */
const when = (run) => (run.state === "queued" && format.place(run)) || format.ago(run.created_at);
