// @ts-check
/** Why the network says what it says: the ink that spoke for it, and what each layer makes of the drawing. */
import { predict, problemOf } from "./api.js";
import { paintLayer, paintSaliency } from "./cells.js";
import { element, find, say } from "./dom.js";
import * as format from "./format.js";
import { Latest } from "./latest.js";
import { regions } from "./regions.js";

/** @typedef {import("./api.js").Included} Included */
/** @typedef {import("./api.js").LayerActivations} LayerActivations */
/** @typedef {import("./api.js").Prediction} Prediction */
/** @typedef {import("./recogniser.js").Question} Question */

export class Why {
  /** The finished drawing that the page shows the answer to, and which of its digits. @type {{question: Question, index: number} | null} */
  #about = null;
  /** @type {Prediction | null} */
  #shown = null;
  #latest = new Latest();

  /** @param {HTMLDetailsElement} root */
  constructor(root) {
    this.root = root;
    this.message = find(root, ".why-message", HTMLElement);
    this.content = find(root, ".why-content", HTMLElement);
    this.canvas = find(root, "#saliency", HTMLCanvasElement);
    this.words = find(root, ".why-words", HTMLElement);
    this.digits = root.querySelectorAll(".why-digit");
    this.pro = find(root, ".why-pro", Element);
    this.contra = find(root, ".why-contra", Element);
    this.layers = find(root, ".why-layers", HTMLDetailsElement);
    this.list = find(root, ".layer-images", HTMLElement);
    root.addEventListener("toggle", () => this.#ask());
    this.layers.addEventListener("toggle", () => this.layers.open && this.#ask());
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#paint());
    this.clear();
  }

  /** @param {Question} question @param {number} index  of the digit among those that were read */
  explain(question, index) {
    this.#about = { question, index };
    this.#ask();
  }

  clear() {
    this.#about = this.#shown = null;
    this.#latest.ask();
    this.content.hidden = true;
    say(this.message, "Draw a digit, and here you see what made the network name it.", "plain");
  }

  async #ask() {
    if (!this.root.open || !this.#about) return;
    const { question, index } = this.#about;
    const isLatest = this.#latest.ask();
    if (!this.#shown) say(this.message, "Asking the network …", "plain");
    try {
      const { digits } = await predict(question.drawing, question, this.#wanted());
      if (isLatest() && digits[index]) this.#show(digits[index]);
    } catch (cause) {
      if (isLatest()) this.#fail(problemOf(cause).message);
    }
  }

  /** @returns {Included[]} */
  #wanted() {
    return this.layers.open ? ["seen", "saliency", "activations"] : ["seen", "saliency"];
  }

  /** @param {string} reason */
  #fail(reason) {
    this.#shown = null;
    this.content.hidden = true;
    say(this.message, reason);
  }

  /** @param {Prediction} prediction */
  #show(prediction) {
    this.#shown = prediction;
    say(this.message, "");
    this.content.hidden = false;
    for (const place of this.digits) place.textContent = String(prediction.digit);
    this.words.textContent = regions(prediction);
    this.canvas.setAttribute("aria-label", `The network's view of the ${prediction.digit}. ${this.words.textContent}`);
    if (prediction.activations) this.list.replaceChildren(...prediction.activations.map(layerFigure));
    this.#paint();
  }

  #paint() {
    if (!this.#shown) return;
    const { seen, saliency, activations } = this.#shown;
    const color = (/** @type {Element} */ of) => getComputedStyle(of).color;
    const colors = { ink: color(this.canvas), pro: color(this.pro), contra: color(this.contra) };
    if (seen && saliency) paintSaliency(this.canvas, seen, saliency, colors);
    const canvases = this.list.querySelectorAll("canvas");
    activations?.forEach((layer, index) => paintLayer(canvases[index], layer));
  }
}

/** @param {LayerActivations} layer */
function layerFigure({ layer, type, size, shape, low, high }) {
  const isImage = shape.length === 3;
  const form = isImage ? `${format.count(size)} channels of ${shape[1]} × ${shape[2]}` : `${format.count(size)} numbers`;
  const part = shape[0] < size ? `, the first ${format.count(shape[0])} shown` : "";
  const range = `${format.short(low)} to ${format.short(high)}`;
  const about = element("span", { class: "hint" }, `${form}${part}; from ${range}`);
  return element(
    "figure",
    {},
    element("figcaption", {}, element("strong", {}, `${layer + 1}. ${format.words(type)}`), " ", about),
    element("canvas", {
      class: isImage ? "layer-channels" : "layer-units",
      role: "img",
      "aria-label": `Output of layer ${layer + 1}, ${format.words(type)}: ${form}, from ${range}`,
    }),
  );
}
