// @ts-check
/** The form that asks for a training. */
import { presets, problemOf, train } from "./api.js";
import { element, find, say } from "./dom.js";
import { layer, scheduledRate, words } from "./format.js";

/** @typedef {import("./api.js").FieldError} FieldError */
/** @typedef {import("./api.js").Optimizer} Optimizer */
/** @typedef {import("./api.js").Preset} Preset */
/** @typedef {import("./api.js").Problem} Problem */
/** @typedef {import("./api.js").Run} Run */
/** @typedef {import("./api.js").TrainRequest} TrainRequest */

/** One's own runs, or everybody's, are as many as may wait; or the database is away. */
const BUSY = [429, 503];

export class TrainerForm {
  /** @type {Preset[]} */
  #presets = [];

  /** @param {HTMLFormElement} root @param {(run: Run) => void} onStart */
  constructor(root, onStart) {
    this.root = root;
    this.onStart = onStart;
    this.preset = find(root, "[name=preset]", HTMLSelectElement);
    this.layers = find(root, ".layers", HTMLElement);
    this.about = find(root, "#preset-about", HTMLElement);
    this.rateHint = find(root, "#learning_rate-hint", HTMLElement);
    this.button = find(root, "[type=submit]", HTMLButtonElement);
    this.message = find(root, ".form-message", HTMLElement);
    this.preset.addEventListener("change", () => this.#fill());
    root.addEventListener("input", ({ target }) => this.#forgive(target));
    root.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
  }

  /** Fetches the presets, once. */
  async load() {
    if (this.#presets.length) return;
    try {
      this.#presets = await presets();
    } catch (cause) {
      return say(this.message, problemOf(cause).message);
    }
    say(this.message, "");
    this.preset.replaceChildren(...this.#presets.map(({ name }) => element("option", { value: name }, words(name))));
    this.#fill({ keepTyped: true });
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
      seed: spec.seed,
    };
    for (const [name, value] of Object.entries(values)) {
      const field = this.#field(name);
      if (!keepTyped || field.value === "") field.value = String(value);
    }
    this.#field("name").placeholder = spec.name;
    this.about.textContent = description;
    this.layers.replaceChildren(...spec.network.map((one) => element("li", {}, layer(one))));
    this.rateHint.textContent = rateHint(spec.optimizer);
    this.#showErrors([]);
  }

  async #submit() {
    await this.load();
    const preset = this.#chosen;
    if (!preset) return; // load has said why
    const focused = document.activeElement;
    this.button.disabled = true;
    this.#showErrors([]);
    say(this.message, "");
    try {
      this.onStart(await train(this.#request(preset)));
    } catch (cause) {
      this.#explain(problemOf(cause));
    }
    this.button.disabled = false;
    if (focused === this.button) this.button.focus({ preventScroll: true }); // what is disabled loses the focus
  }

  /** @param {Preset} preset @returns {TrainRequest} */
  #request({ name: preset, spec }) {
    const name = this.#field("name").value.trim();
    const number = (/** @type {string} */ field) => {
      const value = this.#field(field).valueAsNumber;
      return Number.isNaN(value) ? null : value; // the service says what is wrong with it, beside the field
    };
    return {
      preset,
      ...(name && { name }),
      batch_size: number("batch_size"),
      epochs: number("epochs"),
      optimizer: withRate(spec.optimizer, number("learning_rate")),
      seed: number("seed"),
    };
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
    for (const field of this.root.querySelectorAll("[name]")) {
      const name = field.getAttribute("name") ?? "";
      // A number-or-schedule is refused once for each; the error that goes deepest is about what was given.
      const [mine] = errors
        .filter(({ loc }) => loc.includes(name))
        .sort((one, other) => other.loc.length - one.loc.length);
      field.setAttribute("aria-invalid", String(Boolean(mine)));
      say(find(this.root, `#${name}-error`, HTMLElement), mine?.msg ?? "");
    }
    return errors.filter(({ loc }) => !loc.some((part) => this.root.elements.namedItem(String(part))));
  }

  /** A field that is being mended need not stay red. @param {EventTarget | null} field */
  #forgive(field) {
    if (!(field instanceof HTMLElement) || field.getAttribute("aria-invalid") !== "true") return;
    field.setAttribute("aria-invalid", "false");
    say(find(this.root, `#${field.id}-error`, HTMLElement), "");
  }
}

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
