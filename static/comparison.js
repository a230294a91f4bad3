// @ts-check
/** Two models side by side. */
import { compareModels, problemOf } from "./api.js";
import { element, find, say } from "./dom.js";
import * as format from "./format.js";
import { Latest } from "./latest.js";
import { offer } from "./model-choice.js";

/** @typedef {import("./api.js").Comparison} Compared */
/** @typedef {import("./api.js").Model} Model */
/** @typedef {{head: string, values: string[], better?: number}} Row  `better`: the column of the better value; -1: neither */

export class Comparison {
  #latest = new Latest();

  /** @param {HTMLDetailsElement} root */
  constructor(root) {
    this.root = root;
    this.message = find(root, ".message", HTMLElement);
    this.place = find(root, ".comparison", HTMLElement);
    this.choices = [...root.querySelectorAll("select")];
    find(root, "form", HTMLFormElement).addEventListener("submit", (event) => {
      event.preventDefault();
      this.#compare();
    });
  }

  /** The ids of those that are to be compared. */
  get chosen() {
    return this.root.open ? this.choices.map(({ value }) => value) : [];
  }

  /** @param {Model[]} models */
  offer(models) {
    for (const choice of this.choices) offer(choice, models);
    const [one, other] = this.choices;
    if (one.value === other.value && models.length > 1) other.selectedIndex = one.selectedIndex === 0 ? 1 : 0;
  }

  async #compare() {
    const isLatest = this.#latest.ask();
    say(this.message, "Comparing …", "plain");
    try {
      const compared = await compareModels(this.choices.map(({ value }) => value));
      if (isLatest()) this.#show(compared);
    } catch (cause) {
      const { message } = problemOf(cause);
      if (!isLatest()) return;
      this.place.hidden = true;
      say(this.message, message);
    }
  }

  /** @param {Compared} compared */
  #show(compared) {
    say(this.message, compared.differences.length ? "The two, side by side:" : "They were trained in the same way.", "plain");
    this.place.hidden = false;
    const head = ["", ...format.titles(compared.models, ({ name }) => name)];
    this.place.replaceChildren(
      element(
        "table",
        { class: "figures compared" },
        element("thead", {}, element("tr", {}, ...head.map((name) => element("th", { scope: "col" }, name)))),
        group("Scores on the test images", scores(compared)),
        group("What is different about their training", trainings(compared.differences)),
        group("Share of each digit’s images that is named right", recalls(compared)),
      ),
    );
  }
}

/** @param {string} title @param {Row[]} rows */
function group(title, rows) {
  if (rows.length === 0) return "";
  const heading = element("tr", {}, element("th", { scope: "rowgroup", colspan: 3, class: "compared-group" }, title));
  return element("tbody", {}, heading, ...rows.map(line));
}

/** @param {Row} row */
function line({ head, values, better = -1 }) {
  const cells = values.map((value, index) =>
    index === better
      ? element("td", { class: "is-better" }, value, element("span", { class: "visually-hidden" }, ", the better"))
      : element("td", {}, value),
  );
  return element("tr", {}, element("th", { scope: "row" }, head), ...cells);
}

/** @param {Compared} compared @returns {Row[]} */
function scores({ models, differences }) {
  const sameLoss = !differences.some(({ field }) => field.startsWith("spec.loss"));
  const accuracies = models.map(({ scores: { accuracy } }) => accuracy);
  const losses = models.map(({ scores: { loss } }) => loss);
  const sizes = models.map(({ parameters }) => parameters);
  return [
    { head: "Accuracy", values: accuracies.map((share) => format.percent(share)), better: largest(accuracies) },
    sameLoss
      ? { head: "Loss", values: losses.map(format.loss), better: largest(losses.map((loss) => -loss)) }
      : { head: "Loss, each its own", values: losses.map(format.loss) },
    { head: "Parameters", values: sizes.map(format.count), better: largest(sizes.map((size) => -size)) },
  ];
}

/** @param {Compared} compared @returns {Row[]} */
function recalls({ per_class: digits }) {
  return digits.map(({ digit, recall }) => ({
    head: String(digit),
    values: recall.map((share) => format.percent(share)),
    better: largest(recall),
  }));
}

/** All that is different about a layer in one row. @param {Compared["differences"]} differences @returns {Row[]} */
function trainings(differences) {
  /** What each model's layer has of its own, by the layer's place. @type {Map<number, Record<string, unknown>[]>} */
  const layers = new Map();
  /** @type {Row[]} */
  const others = [];
  for (const { field, values } of differences) {
    const [, place, name] = /^spec\.network\.(\d+)\.?(.*)$/.exec(field) ?? [];
    if (place === undefined) others.push({ head: pathOf(field), values: values.map(field.endsWith("learning_rate") ? rate : plain) });
    else collect(layers, Number(place), name, values);
  }
  const rows = [...layers].map(([place, own]) => ({ head: `layer ${place + 1}`, values: own.map(layerOf) }));
  return [...others, ...rows];
}

/** @param {Map<number, Record<string, unknown>[]>} layers @param {number} place @param {string} name  empty: of the whole layer @param {unknown[]} values */
function collect(layers, place, name, values) {
  const own = layers.get(place) ?? values.map(() => ({}));
  layers.set(place, own);
  values.forEach((value, model) => {
    if (value !== null) Object.assign(own[model], name ? { [name]: value } : value);
  });
}

/** @param {Record<string, unknown>} own */
function layerOf({ type = "", ...settings }) {
  const said = format.layer({ type: String(type), ...settings });
  return said || settingsOf(settings) || "–";
}

/** @param {object} settings */
const settingsOf = (settings) =>
  Object.entries(settings).map(([name, value]) => `${format.words(name)} ${plain(value)}`).join(", ");

/** @param {string} field  such as spec.optimizer.learning_rate */
const pathOf = (field) => format.words(field.replace(/^spec\./, "")).replaceAll(".", " · ");

/** @param {unknown} value  a number, or a schedule */
const rate = (value) => (value === null ? plain(value) : format.learningRate(/** @type {import("./api.js").Rate} */ (value)));

/** @param {unknown} value @returns {string} */
function plain(value) {
  if (value === null || value === undefined) return "–";
  if (Array.isArray(value)) return value.map(plain).join(", ");
  if (typeof value !== "object") return String(value);
  return "type" in value ? format.layer(/** @type {import("./api.js").Layer} */ (value)) : settingsOf(value);
}

/** @param {number[]} values @returns {number}  the place of the one that is larger than all others; -1: there is none */
function largest(values) {
  const most = Math.max(...values);
  return values.filter((value) => value === most).length === 1 ? values.indexOf(most) : -1;
}
