// @ts-check
/** The form that asks for a training. */
import { dryRun, presets, problemOf, train } from "./api.js";
import { element, find, say } from "./dom.js";
import { count, duration, layer, lossName, scheduledRate, words } from "./format.js";
import { NetworkEditor } from "./network-editor.js";
import { storage } from "./storage.js";

/** @typedef {import("./api.js").FieldError} FieldError */
/** @typedef {import("./api.js").Optimizer} Optimizer */
/** @typedef {import("./api.js").Preset} Preset */
/** @typedef {import("./api.js").Problem} Problem */
/** @typedef {import("./api.js").Run} Run */
/** @typedef {import("./api.js").TrainRequest} TrainRequest */
/** @typedef {import("./api.js").TrainSpec} TrainSpec */

const OPTIMIZERS = ["adam", "adamw", "nadam", "adamax", "sgd", "rmsprop", "adagrad", "adadelta", "lion"];
const LOSSES = [
  "categorical_crossentropy", "mean_squared_error", "mean_absolute_error", "hinge", "kl_divergence", "poisson",
];
const PAUSE_MS = 300;
const KEPT = "inkling-training";
const LONGEST_NAME = 50;

/** One's own runs, or everybody's, are as many as may wait; or the database is away. */
const BUSY = [429, 503];

export class TrainerForm {
  /** The service's. @type {Preset[]} */
  #served = [];
  /** And one more, which somebody has laid out. @type {Preset[]} */
  #presets = [];
  /** @type {Promise<void> | null} */
  #loading = null;
  #timer = 0;

  /** @param {HTMLFormElement} root @param {(run: Run) => void} onStart */
  constructor(root, onStart) {
    this.root = root;
    this.onStart = onStart;
    this.preset = find(root, "[name=preset]", HTMLSelectElement);
    this.optimizer = find(root, "[name=optimizer]", HTMLSelectElement);
    this.loss = find(root, "[name=loss]", HTMLSelectElement);
    this.layers = find(root, ".layers", HTMLElement);
    this.about = find(root, "#preset-about", HTMLElement);
    this.outlook = find(root, ".outlook", HTMLElement);
    this.rateHint = find(root, "#learning_rate-hint", HTMLElement);
    this.button = find(root, "[type=submit]", HTMLButtonElement);
    this.message = find(root, ".form-message", HTMLElement);
    this.editor = new NetworkEditor(find(root, ".network-editor", HTMLElement), {
      onChange: () => this.#look(),
      onReset: () => this.#layOut(),
    });
    this.preset.addEventListener("change", () => this.#fill());
    root.addEventListener("input", ({ target }) => {
      this.#forgive(target);
      this.#look();
    });
    root.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
  }

  /** Fetches the presets, once. */
  load() {
    this.#loading ??= this.#load().finally(() => (this.#loading = null));
    return this.#loading;
  }

  async #load() {
    if (this.#presets.length) return;
    try {
      this.#served = this.#presets = await presets();
    } catch (cause) {
      return say(this.message, problemOf(cause).message);
    }
    say(this.message, "");
    this.#offerPresets();
    offer(this.optimizer, OPTIMIZERS); // not before: the preset's takes the place of what was chosen
    offer(this.loss, LOSSES);
    const left = recalled();
    if (left) this.#layOutLike("as you left it", "What was set here before the page was loaded again.", left);
    else this.#fill({ keepTyped: true });
  }

  /** Lays a run's settings out, to change one of them and train again. @param {Run} run */
  async take({ name, spec }) {
    await this.load();
    if (this.#presets.length === 0) return; // load has said why
    this.#layOutLike(`the run “${name}”`, "Its settings: change one thing, and train again.", spec);
    this.preset.focus();
  }

  /** @param {string} name @param {string} description @param {TrainSpec} spec */
  #layOutLike(name, description, spec) {
    this.#presets = [...this.#presets.filter((preset) => preset.name !== name), { name, description, spec }];
    this.#offerPresets();
    this.preset.value = name;
    this.#fill();
  }

  #offerPresets() {
    offer(this.preset, this.#presets.map(({ name }) => name));
  }

  get #chosen() {
    return this.#presets.find(({ name }) => name === this.preset.value);
  }

  /** @param {string} name */
  #field(name) {
    return find(this.root, `[name=${name}]`, HTMLInputElement);
  }

  /** @param {{keepTyped?: boolean}} [options]  what was typed before the presets arrived stays */
  #fill({ keepTyped = false } = {}) {
    const preset = this.#chosen;
    if (!preset) return;
    const { spec, description } = preset;
    const values = {
      batch_size: spec.batch_size,
      epochs: spec.epochs,
      learning_rate: rateOf(spec.optimizer),
      validation_split: spec.validation_split,
      seed: spec.seed,
    };
    for (const [name, value] of Object.entries(values)) {
      const field = this.#field(name);
      if (!keepTyped || field.value === "") field.value = String(value);
    }
    this.optimizer.value = spec.optimizer.type;
    this.loss.value = lossName(spec.loss);
    this.about.textContent = description;
    this.#showErrors([]);
    this.#layOut();
  }

  /** The preset's own layers. */
  #layOut() {
    this.editor.network = this.#chosen?.spec.network ?? [];
    this.#look();
  }

  /** Shows what is laid out, and soon what the service says to it. */
  #look() {
    const preset = this.#chosen;
    if (!preset) return;
    const request = this.#request(preset);
    this.layers.replaceChildren(...request.network.map((one) => element("li", {}, layer(one))));
    this.rateHint.textContent = rateHint(this.#optimizerLike(preset.spec.optimizer));
    this.#field("name").placeholder = this.#usualName(preset);
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#foresee(request), PAUSE_MS);
  }

  /** @param {TrainRequest} request */
  async #foresee(request) {
    const timer = this.#timer;
    try {
      const outlook = await dryRun(request);
      if (timer !== this.#timer) return; // something has changed meanwhile
      this.#remember(request);
      say(this.outlook, outlook ? foreseen(outlook) : "", "plain");
      this.editor.showShapes(outlook?.summary ?? []);
      this.#showErrors([]);
    } catch (cause) {
      const { errors } = problemOf(cause);
      if (timer !== this.#timer) return;
      const strays = this.#showErrors(errors);
      this.editor.showShapes([]);
      const amiss = strays.find(isOf("network")) ?? errors.find(isOf("loss")); // whose field may be out of sight
      say(this.outlook, amiss?.msg ?? "");
    }
  }

  /** Until the tab is closed; a preset as it is need not be. @param {TrainRequest} request  that can be trained */
  #remember(request) {
    const laidOut = JSON.stringify(request);
    if (this.#served.some(({ spec }) => JSON.stringify(spec) === laidOut)) storage("sessionStorage")?.removeItem(KEPT);
    else storage("sessionStorage")?.setItem(KEPT, laidOut);
  }

  async #submit() {
    const hadFocus = document.activeElement === this.button;
    this.button.disabled = true;
    this.#showErrors([]);
    say(this.message, "");
    try {
      await this.load();
      const preset = this.#chosen; // none: load has said why
      if (preset) this.onStart(await train(this.#request(preset)));
    } catch (cause) {
      this.#explain(problemOf(cause));
    } finally {
      this.button.disabled = false;
    }
    // What is disabled loses the focus, unless it has gone to a field that is wrong.
    if (hadFocus && !this.root.querySelector("[aria-invalid=true]:focus")) this.button.focus({ preventScroll: true });
  }

  /** @param {Preset} preset @returns {TrainRequest} */
  #request(preset) {
    const { spec } = preset;
    const number = (/** @type {string} */ field) => {
      const value = this.#field(field).valueAsNumber;
      return Number.isNaN(value) ? null : value; // the service says what is wrong with it, beside the field
    };
    return {
      ...spec,
      name: this.#field("name").value.trim() || this.#usualName(preset),
      network: this.editor.network,
      loss: this.loss.value === lossName(spec.loss) ? spec.loss : this.loss.value,
      optimizer: withRate(this.#optimizerLike(spec.optimizer), number("learning_rate")),
      batch_size: number("batch_size"),
      epochs: number("epochs"),
      validation_split: number("validation_split"),
      seed: number("seed"),
    };
  }

  /** The preset's with its settings, or another that keeps its learning rate's course. @param {Optimizer} usual @returns {Optimizer} */
  #optimizerLike(usual) {
    const type = this.optimizer.value;
    return type === usual.type ? usual : { type, learning_rate: usual.learning_rate };
  }

  /** The preset's; one that was changed is named by its hidden layers, where these are few. @param {Preset} preset */
  #usualName({ spec: { name, network } }) {
    const own = this.editor.network;
    if (JSON.stringify(network) === JSON.stringify(own)) return name;
    const hidden = own.slice(0, -1).filter(({ type }) => type !== "flatten").map(layer).join(", ");
    return hidden && hidden.length <= LONGEST_NAME ? hidden : `${name}, changed`;
  }

  /** @param {Problem} problem */
  #explain(problem) {
    const strays = this.#showErrors(problem.errors);
    if (BUSY.includes(problem.status))
      return say(this.message, `Not just now: ${problem.message.replace(/\.$/, "")}. What you have set here stays.`, "plain");
    if (problem.errors.length === 0) return say(this.message, problem.message);
    say(this.message, strays.map(({ loc, msg }) => `${loc.slice(1).join(" › ")}: ${msg}`).join("\n"));
    const first = find(this.root, "[aria-invalid=true], [type=submit]", HTMLElement);
    first.closest("details")?.setAttribute("open", "");
    first.focus();
  }

  /** Shows each error beside its field. @param {FieldError[]} errors @returns {FieldError[]} those that have no field */
  #showErrors(errors) {
    const fieldOf = (/** @type {FieldError} */ { loc }) =>
      loc.findLast((part) => this.root.elements.namedItem(String(part)));
    for (const field of this.root.querySelectorAll("[name]")) {
      const name = field.getAttribute("name") ?? "";
      const mine = errors.find((error) => fieldOf(error) === name);
      field.setAttribute("aria-invalid", String(Boolean(mine)));
      say(find(this.root, `#${name}-error`, HTMLElement), mine?.msg ?? "");
    }
    return this.editor.showErrors(errors).filter((error) => !fieldOf(error));
  }

  /** A field that is being mended need not stay red. @param {EventTarget | null} field */
  #forgive(field) {
    if (!(field instanceof HTMLElement) || !field.id || field.getAttribute("aria-invalid") !== "true") return;
    field.setAttribute("aria-invalid", "false");
    say(find(this.root, `#${field.id}-error`, HTMLElement), "");
  }
}

/** What was remembered. @returns {TrainSpec | null} */
function recalled() {
  return JSON.parse(storage("sessionStorage")?.getItem(KEPT) ?? "null");
}

/** @param {string} field  of the spec */
const isOf = (field) => (/** @type {FieldError} */ { loc }) => loc[1] === field;

/** @param {HTMLSelectElement} select @param {string[]} values */
const offer = (select, values) =>
  select.replaceChildren(...values.map((value) => element("option", { value }, words(value))));

/** @param {import("./api.js").DryRun} outlook */
const foreseen = ({ parameters, seconds }) =>
  `${count(parameters)} parameters; ${seconds < 1 ? "" : "about "}${duration(seconds)} to train`;

/** @param {Optimizer} optimizer */
function rateOf({ learning_rate: rate }) {
  return typeof rate === "number" ? rate : rate[scheduledRate(rate)];
}

/** The optimizer with another learning rate; a schedule keeps its course. @param {Optimizer} optimizer @param {number | null} value */
function withRate(optimizer, value) {
  const { learning_rate: rate } = optimizer;
  return { ...optimizer, learning_rate: typeof rate === "number" ? value : { ...rate, [scheduledRate(rate)]: value } };
}

/** @param {Optimizer} optimizer */
function rateHint({ type, learning_rate: rate }) {
  const course = typeof rate === "number" ? "throughout" : `at first, then along the ${words(rate.type)}`;
  return `how far ${type} moves in one step, ${course}`;
}
