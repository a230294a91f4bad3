// @ts-check
/** A network as a list of layers that can be changed, moved, added and removed. */
import { element, find, say } from "./dom.js";
import { words } from "./format.js";
import { CHOICES, KINDS, newLayer } from "./layers.js";

/** @typedef {import("./api.js").FieldError} FieldError */
/** @typedef {import("./api.js").Layer} Layer */
/** @typedef {import("./api.js").LayerSummary} LayerSummary */

export class NetworkEditor {
  /** @type {Layer[]} */
  #layers = [];

  /** @param {HTMLElement} root @param {{onChange: () => void, onReset: () => void}} options */
  constructor(root, { onChange, onReset }) {
    this.onChange = onChange;
    this.rows = find(root, ".layer-rows", HTMLElement);
    find(root, ".add-layer", HTMLButtonElement).addEventListener("click", () => this.#add());
    find(root, ".reset-layers", HTMLButtonElement).addEventListener("click", () => onReset());
  }

  get network() {
    return this.#layers;
  }

  /** @param {Layer[]} network */
  set network(network) {
    this.#layers = network.map((layer) => ({ ...layer }));
    this.#show();
  }

  /** What each layer hands on, where that is known. @param {LayerSummary[]} summary */
  showShapes(summary) {
    [...this.rows.children].forEach((row, index) => {
      const shape = summary[index]?.output_shape;
      find(row, ".layer-shape", HTMLElement).textContent = shape ? `→ ${shape.join("×")}` : "";
    });
  }

  /** Shows each error below its layer. @param {FieldError[]} errors @returns {FieldError[]} those of no layer */
  showErrors(errors) {
    const placed = new Map(errors.map((error) => [indexOf(error), error]));
    [...this.rows.children].forEach((row, index) => {
      const error = placed.get(index);
      const wrong = error && (row.querySelector(`[data-setting="${settingOf(error)}"]`) ?? row.querySelector(".layer-kind"));
      for (const field of row.querySelectorAll("select, input")) field.setAttribute("aria-invalid", String(field === wrong));
      say(find(row, ".field-error", HTMLElement), error ? textOf(error) : "");
    });
    return errors.filter((error) => indexOf(error) === undefined);
  }

  /** In front of the last, which gives the answer. */
  #add() {
    const place = Math.max(0, this.#layers.length - 1);
    this.#layers.splice(place, 0, newLayer("dense"));
    this.#change(place, ".layer-kind");
  }

  /** @param {number} index @param {number} by */
  #move(index, by) {
    const [layer] = this.#layers.splice(index, 1);
    this.#layers.splice(index + by, 0, layer);
    this.#change(index + by, by < 0 ? ".layer-up" : ".layer-down");
  }

  /** @param {number} index */
  #remove(index) {
    this.#layers.splice(index, 1);
    this.#change(Math.min(index, this.#layers.length - 1), ".layer-remove");
  }

  /** The rows are made anew; what was used keeps the focus. @param {number} index @param {string} part */
  #change(index, part) {
    this.#show();
    const row = this.rows.children[index];
    const used = row.querySelector(`${part}:enabled`) ? part : ".layer-kind";
    find(row, used, HTMLElement).focus();
    this.onChange();
  }

  #show() {
    this.rows.replaceChildren(...this.#layers.map((layer, index) => this.#row(layer, index)));
  }

  /** @param {Layer} layer @param {number} index */
  #row(layer, index) {
    const error = `layer-${index + 1}-error`;
    const label = `Kind of layer ${index + 1}`;
    const kind = choice(Object.keys(KINDS), layer.type, { class: "layer-kind", "aria-label": label, "aria-describedby": error });
    kind.addEventListener("change", () => {
      this.#layers[index] = newLayer(kind.value);
      this.#change(index, ".layer-kind");
    });
    const last = this.#layers.length - 1;
    return element(
      "li",
      {},
      kind,
      button("↑", `Layer ${index + 1} up`, "layer-up", index === 0, () => this.#move(index, -1)),
      button("↓", `Layer ${index + 1} down`, "layer-down", index === last, () => this.#move(index, 1)),
      button("×", `Remove layer ${index + 1}`, "layer-remove", last === 0, () => this.#remove(index)),
      element("div", { class: "layer-settings" }, ...this.#settings(layer, error), element("span", { class: "layer-shape" })),
      element("p", { class: "field-error", id: error }),
    );
  }

  /** @param {Layer} layer @param {string} error  the id of what says what is wrong */
  #settings(layer, error) {
    return Object.entries(KINDS[layer.type]).map(([name, usual]) => {
      layer[name] ??= usual; // what is shown is sent, also where a number was taken out
      const input = inputFor(name, layer[name], { "data-setting": name, "aria-describedby": error });
      input.addEventListener("input", () => {
        layer[name] = input instanceof HTMLInputElement ? numberIn(input) : input.value;
        this.onChange();
      });
      return element("label", {}, element("span", {}, words(name)), input);
    });
  }
}

/** @param {string} name @param {unknown} value @param {import("./dom.js").Attributes} attributes */
function inputFor(name, value, attributes) {
  if (name in CHOICES) return choice(CHOICES[name], String(value), attributes);
  return element("input", { type: "number", step: "any", inputmode: "decimal", value: Number(value), ...attributes });
}

/** What is no number is sent as none: the service says what is right. @param {HTMLInputElement} input */
const numberIn = ({ valueAsNumber }) => (Number.isNaN(valueAsNumber) ? null : valueAsNumber);

/** The layer that an error is about. @param {FieldError} error */
const indexOf = ({ loc: [, field, index] }) => (field === "network" ? index : undefined);

/** Of the layer; undefined: the error is about all of it. @param {FieldError} error */
const settingOf = ({ loc: [, , , setting] }) => setting;

/** @param {FieldError} error */
function textOf(error) {
  const setting = settingOf(error);
  return setting === undefined ? error.msg : `${words(String(setting))}: ${error.msg}`;
}

/** @param {string[]} options @param {string} chosen @param {import("./dom.js").Attributes} attributes */
function choice(options, chosen, attributes) {
  const select = element("select", attributes, ...options.map((value) => element("option", { value }, words(value))));
  select.value = chosen;
  return select;
}

/** @param {string} sign @param {string} label @param {string} name @param {boolean} disabled @param {() => void} act */
function button(sign, label, name, disabled, act) {
  const made = element("button", { type: "button", class: `quiet ${name}`, "aria-label": label, title: label, disabled }, sign);
  made.addEventListener("click", act);
  return made;
}
