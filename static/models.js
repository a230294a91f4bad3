// @ts-check
/** The trained models: which there are, which one is the default, which one answers the canvas. */
import { deleteModel, downloadAddress, makeDefault, models, problemOf } from "./api.js";
import { arrange, element, find, say } from "./dom.js";
import * as format from "./format.js";
import { Latest } from "./latest.js";
import { hasLearned, offer, titleOf } from "./model-choice.js";
import { ModelEditor } from "./model-editor.js";
import { Pager } from "./pager.js";

/** @typedef {import("./api.js").Model} Model */
/** @typedef {import("./deletion.js").Deletion} Deletion */
/** @typedef {import("./api.js").RunSummary} RunSummary */

const STALE_MS = 14_000;
const PAGE = 50;
/** Those of the models that answer where none is asked for. */
const STANDING = ["default", "candidate"];

export class Models {
  /** @type {Model[]} */
  #models = [];
  /** The ids of those that the runs gave. @type {Set<string>} */
  #published = new Set();
  /** The ids of those that were asked for by name, and have been deleted. @type {Set<string>} */
  #gone = new Set();
  /** By the model's id, with what they say. @type {Map<string, {content: string, row: HTMLTableRowElement}>} */
  #rows = new Map();
  #latest = new Latest();
  #askedAt = -Infinity;
  #shown = "";
  /** The id of the model that answered the canvas last, where none is chosen. */
  #answered = "";

  /**
   * @param {HTMLElement} root
   * @param {{answering: HTMLSelectElement, deletion: Deletion, kept: () => string[], onReport: (model: Model) => void,
   *   onRun: (id: string) => void, onDraw: (model: Model) => void, onAnswering: () => void,
   *   onModels: (models: Model[]) => void}} options  `kept`: ids of those that are shown on every page; `onRun`: to the run
   *   that gave a model; `onDraw`: a model is to answer the canvas; `onAnswering`: another answers it now; `onModels`: there
   *   are others, or something about them has changed
   */
  constructor(root, options) {
    this.options = options;
    this.table = find(root, "#models", HTMLTableElement);
    this.title = find(root, "#models-title", HTMLElement);
    this.empty = find(root, ".models-empty", HTMLElement);
    this.message = find(root, ".models-message", HTMLElement);
    this.pager = new Pager(root, { title: this.title, first: PAGE, others: PAGE, onTurn: () => this.refresh() });
    this.editor = new ModelEditor((model, said, tone) => this.#endEditing(model, said, tone));
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

  /** Has the canvas answered by one of them. @param {Model} model */
  answerBy({ id }) {
    this.options.answering.value = id;
    this.options.onAnswering();
  }

  /** The model that has answered is named, the candidate as well; another may have become the default. @param {string} id */
  noteAnswer(id) {
    if (this.answering || this.#answered === id) return;
    this.#answered = id;
    if (this.find(id)?.aliases.some((alias) => STANDING.includes(alias))) this.#offerAnswering();
    else this.refresh();
  }

  /** Fetches them when a run has given one, and now and then, as others choose and delete on the same service.
   * @param {RunSummary[]} runs  as they are now, which is asked more often */
  follow(runs) {
    const published = runs.flatMap(({ model }) => model ?? []);
    const isNews = published.some((model) => !this.#published.has(model));
    for (const model of published) this.#published.add(model);
    if (isNews || performance.now() - this.#askedAt > STALE_MS) this.refresh();
  }

  /** Fetches the models anew. */
  async refresh() {
    const isLatest = this.#latest.ask();
    this.#askedAt = performance.now();
    try {
      const kept = this.#kept;
      const { found, next } = await models(this.pager, ["default", ...kept]);
      if (!isLatest()) return;
      this.#models = found;
      for (const id of kept) if (!this.find(id)) this.#gone.add(id);
      this.pager.show(next);
      this.#show();
    } catch (cause) {
      problemOf(cause); // what is shown stays; the page says elsewhere that the service is away
    }
  }

  /** The ids of those that are shown on every page. */
  get #kept() {
    const { answering, editor, options } = this;
    const kept = [answering || this.#answered, editor.model?.id ?? "", ...options.kept()];
    return kept.filter((id) => id && !this.#gone.has(id));
  }

  #show() {
    const [body] = this.table.tBodies;
    const focused = body.querySelector("[data-model] :focus");
    const shown = this.#models.map((model) => this.#rowOf(model));
    this.#rows = new Map(this.#models.map(({ id }, place) => [id, shown[place]]));
    if (this.editor.model && !this.find(this.editor.model.id)) this.editor.model = null; // it has been deleted
    arrange(body, this.#models.flatMap((model, place) => this.#withEditor(model, shown[place].row)));
    for (const time of body.querySelectorAll("time")) time.textContent = format.ago(time.dateTime);
    const said = JSON.stringify(shown.map(({ content }) => content));
    if (said === this.#shown) return;
    this.#shown = said;
    this.table.hidden = this.#models.length === 0;
    this.empty.hidden = !this.table.hidden;
    if (focused) this.#focus(focused.closest("tr")?.dataset.model ?? "", focused.textContent);
    this.#offerAnswering();
    this.options.onModels(this.#models);
  }

  /** Unless somebody has moved on; where the model has gone, the heading. @param {string} id @param {string} [action] */
  #focus(id, action) {
    if (document.activeElement !== document.body) return;
    const actions = [...(this.#rows.get(id)?.row.querySelectorAll("button, a") ?? [])];
    const same = actions.find(({ textContent }) => textContent === action) ?? actions[0] ?? this.title;
    if (same instanceof HTMLElement) same.focus({ preventScroll: true });
  }

  /** The same as before where it would say the same. @param {Model} model */
  #rowOf(model) {
    const content = JSON.stringify(model);
    const known = this.#rows.get(model.id);
    return known?.content === content ? known : { content, row: this.#row(model) };
  }

  #offerAnswering() {
    const { answering, onAnswering } = this.options;
    const before = answering.value;
    offer(answering, this.#models, [element("option", { value: "" }, this.#standing())]);
    answering.value = this.find(before) ? before : "";
    if (answering.value !== before) onAnswering();
  }

  /** Who answers where none is chosen. */
  #standing() {
    const answered = this.find(this.#answered);
    if (answered?.aliases.includes("candidate")) return `the candidate, ${titleOf(answered)}`;
    const current = this.#models.find(({ aliases }) => aliases.includes("default"));
    return current ? `the default, ${titleOf(current)}` : "the default";
  }

  /** With the form below that edits it, if it is open. @param {Model} model @param {HTMLTableRowElement} row */
  #withEditor(model, row) {
    return this.editor.isOpenFor(model) ? [row, this.editor.row] : [row];
  }

  /** @param {Model} model */
  #row(model) {
    const isDefault = model.aliases.includes("default");
    const badges = model.aliases.flatMap((alias) => [" ", badge(alias, model)]);
    const description = model.description ? [element("span", { class: "model-description" }, model.description)] : [];
    const about = element("span", { class: "model-about", title: `model ${model.id}` }, aboutOf(model));
    const failing = hasLearned(model) ? [] : [failure()];
    return element(
      "tr",
      { role: "row", "data-model": model.id },
      element(
        "th",
        { scope: "row", role: "rowheader" },
        element("bdi", { class: "model-name" }, model.name),
        ...badges,
        about,
        ...description,
        ...failing,
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
    const { name, run } = model;
    const about = `, ${name}`;
    const action = (/** @type {string} */ text, /** @type {(button: HTMLButtonElement) => void} */ act) => {
      const button = element(
        "button",
        { type: "button", class: "quiet" },
        text,
        element("span", { class: "visually-hidden" }, about),
      );
      button.addEventListener("click", () => act(button));
      return button;
    };
    return [
      action("Draw with it", () => this.options.onDraw(model)),
      action("Report", () => this.options.onReport(model)),
      ...(run ? [action("Curves", () => this.options.onRun(run))] : []),
      ...(isDefault ? [] : [action("Make default", (button) => this.#makeDefault(model, button))]),
      ...(isDefault && model.pinned ? [action("Unpin", (button) => this.#unpin(model, button))] : []),
      element(
        "a",
        { class: "quiet button", href: downloadAddress(model.id), download: true },
        "Download",
        element("span", { class: "visually-hidden" }, about),
      ),
      action("Edit", (button) => this.#edit(model, button)),
      ...(isDefault ? [] : [action("Delete", () => this.#delete(model))]),
    ];
  }

  /** @param {Model} model @param {HTMLButtonElement} button */
  #edit(model, button) {
    const row = button.closest("tr");
    if (row) this.editor.open(model, row);
  }

  /** @param {Model} model @param {string} said @param {"good" | "bad"} tone */
  async #endEditing(model, said, tone) {
    if (said) say(this.message, said, tone);
    this.#focus(model.id);
    await this.refresh();
  }

  /** @param {Model} model @param {HTMLButtonElement} button */
  #makeDefault(model, button) {
    return this.#choose(model, button, async () => {
      await makeDefault(model.id);
      return `“${model.name}” is the default now, and stays it.`;
    });
  }

  /** @param {Model} model @param {HTMLButtonElement} button */
  #unpin(model, button) {
    return this.#choose(model, button, async () => {
      const best = await makeDefault(null);
      return `“${best.name}” is the default now; a better model takes its place.`;
    });
  }

  /** @param {Model} model @param {HTMLButtonElement} button @param {() => Promise<string>} act  returns what has been done */
  async #choose(model, button, act) {
    button.disabled = true;
    say(this.message, "");
    try {
      say(this.message, await act(), "good");
    } catch (cause) {
      say(this.message, problemOf(cause).message);
    }
    await this.refresh();
    button.disabled = false;
    this.#focus(model.id); // what is disabled, or goes, loses the focus
    this.options.onAnswering();
  }

  /** @param {Model} model */
  async #delete(model) {
    const text = `“${model.name}” (${format.percent(model.scores.accuracy)} on the test images) cannot be brought back.`;
    if (!(await this.options.deletion.isWanted("Delete this model?", text))) return;
    try {
      await deleteModel(model.id);
      say(this.message, `“${model.name}” is deleted.`, "good");
    } catch (cause) {
      say(this.message, problemOf(cause).message);
    }
    await this.refresh();
    this.#focus(model.id); // the button may have gone before the question was answered
  }
}

/** What tells a model from others of its name. @param {Model} model */
const aboutOf = ({ run, spec }) => `${run === null ? "uploaded; " : ""}${format.spec(spec)}`;

/** @param {string} alias @param {Model} model */
const badge = (alias, { pinned }) =>
  element("span", { class: "badge" }, alias === "default" && pinned ? "default, pinned" : alias);

const failure = () =>
  element("span", { class: "model-failure" }, "learned nothing; try another learning rate");

/** The label stands beside the number where the screen has no room for columns. @param {string} label @param {string} text */
const cell = (label, text) => element("td", { role: "cell", class: "number", "data-label": label }, text);

/** @param {string} moment */
const time = (moment) => element("time", { datetime: moment, title: format.date(moment) }, format.ago(moment));
