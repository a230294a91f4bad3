// @ts-check
/** The numbers behind the curves, a row an epoch. */
import { element, find } from "./dom.js";
import * as format from "./format.js";

/** @typedef {import("./api.js").EpochReport} EpochReport */

export class EpochTable {
  /** The last that is shown. @type {EpochReport | undefined} */
  #last;

  /** @param {HTMLTableElement} root */
  constructor(root) {
    this.root = root;
    this.body = find(root, "tbody", HTMLTableSectionElement);
  }

  /** @param {EpochReport[]} reports */
  show(reports) {
    this.root.classList.toggle("without-validation", reports.every(({ validation_loss: loss }) => loss === null));
    const last = reports.at(-1);
    if (last === this.#last && this.body.rows.length === reports.length) return;
    this.#last = last;
    this.body.replaceChildren(...reports.map(row));
  }
}

/** @param {EpochReport} report */
function row(report) {
  const { validation_loss: loss, validation_accuracy: accuracy } = report;
  return element(
    "tr",
    {},
    element("th", { scope: "row" }, String(report.epoch)),
    element("td", {}, format.loss(report.loss)),
    element("td", {}, format.percent(report.accuracy)),
    element("td", {}, loss === null ? "–" : format.loss(loss)),
    element("td", {}, accuracy === null ? "–" : format.percent(accuracy)),
    element("td", {}, report.seconds.toFixed(1)),
  );
}
