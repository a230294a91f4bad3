// @ts-check
/** The trained models: which there are, which one is the default, which one answers the canvas. */
import { deleteModel, downloadAddress, makeDefault, models, problemOf } from "./api.js";
import { element, find, say } from "./dom.js";
import * as format from "./format.js";

/** @typedef {import("./api.js").Model} Model */

export class Models {
  /** @type {Model[]} */
  #models = [];

  /**
   * @param {HTMLElement} root
   * @param {{answering: HTMLSelectElement, deletion: HTMLDialogElement, onReport: (model: Model) => void,
   *   onAnswering: () => void}} options  `onAnswering`: another model answers the canvas now
   */
  constructor(root, options) {
    this.options = options;
    this.table = find(root, "#models", HTMLTableElement);
    this.empty = find(root, ".models-empty", HTMLElement);
    this.message = find(root, ".models-message", HTMLElement);
    options.answering.addEventListener("change", () => options.onAnswering());
  }

  /** The chosen model's id; empty means the default. */
  get answering() {
    return this.options.answering.value;
  }

  /** @param {string} id */
  find(id) {
    return this.#models.find((model) => model.id === id);
  }

  /** Whether the page knows this model as the default. @param {string} id */
  isDefault(id) {
    return Boolean(this.find(id)?.aliases.includes("default"));
  }

  async refresh() {
    try {
      this.#models = await models();
      this.#show();
    } catch (cause) {
      problemOf(cause); // what is shown stays; the page says elsewhere that the service is away
    }
  }

  #show() {
    const [body] = this.table.tBodies;
    const focused = body.querySelector(":focus")?.closest("tr")?.dataset.model;
    this.table.hidden = this.#models.length === 0;
    this.empty.hidden = !this.table.hidden;
    body.replaceChildren(...this.#models.map((model) => this.#row(model)));
    [...body.rows]
      .find((row) => row.dataset.model === focused)
      ?.querySelector("button")
      ?.focus({ preventScroll: true });
    this.#offerAnswering();
  }

  #offerAnswering() {
    const { answering, onAnswering } = this.options;
    const before = answering.value;
    const current = this.#models.find(({ aliases }) => aliases.includes("default"));
    const options = this.#models.map((model) => element("option", { value: model.id }, titleOf(model)));
    answering.replaceChildren(
      element("option", { value: "" }, current ? `the default, ${titleOf(current)}` : "the default"),
      ...options,
    );
    answering.value = this.find(before) ? before : "";
    if (answering.value !== before) onAnswering();
  }

  /** @param {Model} model */
  #row(model) {
    const isDefault = model.aliases.includes("default");
    const badge = isDefault ? [" ", element("span", { class: "badge" }, "default")] : [];
    return element(
      "tr",
      { role: "row", "data-model": model.id },
      element(
        "th",
        { scope: "row", role: "rowheader" },
        element("span", { class: "model-name" }, model.name),
        ...badge,
      ),
      cell("Test accuracy", format.percent(model.scores.accuracy)),
      cell("Test loss", format.loss(model.scores.loss)),
      cell("Parameters", format.count(model.parameters)),
      element("td", { role: "cell", "data-label": "Trained" }, time(model.created_at)),
      element("td", { role: "cell", class: "actions" }, ...this.#actions(model, isDefault)),
    );
  }

  /** @param {Model} model @param {boolean} isDefault */
  #actions(model, isDefault) {
    const about = `, ${model.name}`;
    const action = (/** @type {string} */ text, /** @type {() => void} */ act) => {
      const button = element(
        "button",
        { type: "button", class: "quiet" },
        text,
        element("span", { class: "visually-hidden" }, about),
      );
      button.addEventListener("click", act);
      return button;
    };
    return [
      action("Report", () => this.options.onReport(model)),
      ...(isDefault ? [] : [action("Make default", () => this.#makeDefault(model))]),
      element(
        "a",
        { class: "quiet button", href: downloadAddress(model.id), download: true },
        "Download",
        element("span", { class: "visually-hidden" }, about),
      ),
      ...(isDefault ? [] : [action("Delete", () => this.#confirmDeletion(model))]),
    ];
  }

  /** @param {Model} model */
  async #makeDefault(model) {
    try {
      await makeDefault(model.id);
      say(this.message, `“${model.name}” is the default now, and stays it.`, "good");
    } catch (cause) {
      say(this.message, problemOf(cause).message);
    }
    await this.refresh();
    this.options.onAnswering();
  }

  /** @param {Model} model */
  #confirmDeletion(model) {
    const { deletion } = this.options;
    find(deletion, ".deletion-text", HTMLElement).textContent =
      `“${model.name}” (${format.percent(model.scores.accuracy)} on the test images) cannot be brought back.`;
    deletion.returnValue = "keep";
    deletion.addEventListener("close", () => deletion.returnValue === "delete" && this.#delete(model), { once: true });
    deletion.showModal();
  }

  /** @param {Model} model */
  async #delete(model) {
    try {
      await deleteModel(model.id);
      say(this.message, `“${model.name}” is deleted.`, "good");
    } catch (cause) {
      say(this.message, problemOf(cause).message);
    }
    await this.refresh();
  }
}

/** @param {Model} model */
const titleOf = ({ name, scores }) => `${name} (${format.percent(scores.accuracy)})`;

/** The label stands beside the number where the screen has no room for columns. @param {string} label @param {string} text */
const cell = (label, text) => element("td", { role: "cell", class: "number", "data-label": label }, text);

/** @param {string} moment */
const time = (moment) => element("time", { datetime: moment, title: format.date(moment) }, format.ago(moment));
