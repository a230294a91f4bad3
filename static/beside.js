// @ts-check
/** The choice of another run, whose curves are shown beside the watched one's. */
import { problemOf, run } from "./api.js";
import { element, find } from "./dom.js";
import * as format from "./format.js";
import { isActive, RunRecord } from "./run-record.js";

/** @typedef {import("./api.js").Run} Run */
/** @typedef {import("./api.js").RunSummary} RunSummary */
/** @typedef {import("./run-record.js").Point} Point */

export class Beside {
  /** The chosen one. @type {Run | null} */
  run = null;
  #watched = "";
  /** @type {RunSummary[]} */
  #runs = [];

  /** @param {HTMLElement} root @param {() => void} onChange  another is chosen, or it is further, or others can be */
  constructor(root, onChange) {
    this.root = root;
    this.onChange = onChange;
    this.choice = find(root, "select", HTMLSelectElement);
    this.choice.addEventListener("change", () => this.#fetch());
  }

  /** Whether there is none to choose. */
  get isEmpty() {
    return this.choice.options.length < 2;
  }

  /** @param {"loss" | "accuracy"} measure @returns {Point[]} */
  epochs(measure) {
    return this.run ? new RunRecord(this.run.progress, this.run.history).curve(measure).epochs : [];
  }

  /** @param {RunSummary[]} runs */
  offer(runs) {
    this.#runs = runs;
    this.#offer();
    if (this.run && isActive(this.run)) this.#fetch();
  }

  /** The watched run is not to be shown beside itself. @param {string} id */
  leaveOut(id) {
    this.#watched = id;
    this.#offer();
  }

  /** A list that is the same stays, lest it close under the pointer; so does who was chosen, however many are newer. */
  #offer() {
    const older = this.run && !this.#runs.some(({ id }) => id === this.run?.id) ? [this.run] : [];
    const others = [...this.#runs, ...older].filter(({ id, progress }) => id !== this.#watched && progress);
    const ids = others.map(({ id }) => id).join(" ");
    if (this.choice.dataset.runs === ids) return;
    const chosen = this.choice.value;
    const titles = format.titles(others, ({ name, spec }) => `${name}: ${format.spec(spec)}`);
    const options = others.map(({ id }, index) => element("option", { value: id }, titles[index]));
    this.choice.dataset.runs = ids;
    this.choice.replaceChildren(element("option", { value: "" }, "no other run"), ...options);
    if (others.some(({ id }) => id === chosen)) this.choice.value = chosen;
    if (this.choice.value === chosen) this.onChange();
    else this.#fetch();
  }

  async #fetch() {
    const id = this.choice.value;
    try {
      const chosen = id ? await run(id) : null;
      if (this.choice.value === id) this.run = chosen;
    } catch (cause) {
      problemOf(cause); // what is shown beside stays
      if (this.choice.value === id) this.choice.value = this.run?.id ?? "";
    }
    this.onChange();
  }
}
