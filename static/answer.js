// @ts-check
/** What the network says to a drawing, and what it saw of it. */
import { contextOf } from "./canvas.js";
import { find } from "./dom.js";
import { sureness } from "./format.js";
import { Probabilities } from "./probabilities.js";

/** @typedef {import("./api.js").Prediction} Prediction */

export class Answer {
  /** @type {number[][]} */
  #pixels = [];

  /** @param {HTMLElement} root */
  constructor(root) {
    this.root = root;
    this.digit = find(root, "#digit", HTMLElement);
    this.confidence = find(root, "#confidence", HTMLElement);
    this.words = find(root, ".sureness-words", HTMLElement);
    this.seen = find(root, "#seen", HTMLCanvasElement);
    this.announcement = find(root, "#announcement", HTMLElement);
    this.probabilities = new Probabilities(find(root, "#probabilities", HTMLElement));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#paintSeen());
  }

  /** @param {Prediction} prediction @param {boolean} finished  only a finished stroke is read out */
  show(prediction, finished) {
    const { digit, confidence, probabilities, seen } = prediction;
    this.digit.textContent = String(digit);
    this.confidence.textContent = sureness(confidence);
    this.words.textContent = `sure${alternative(prediction)}`;
    this.probabilities.show(probabilities);
    this.#pixels = seen ?? [];
    this.#paintSeen();
    this.seen.setAttribute("aria-label", `The 28 by 28 pixels the network saw: it reads a ${digit}`);
    if (finished) this.announcement.textContent = `${digit}, ${sureness(confidence)} sure`;
  }

  clear() {
    this.digit.textContent = this.confidence.textContent = this.words.textContent = this.announcement.textContent = "";
    this.probabilities.show(null);
    this.#pixels = [];
    this.#paintSeen();
    this.seen.setAttribute("aria-label", "The 28 by 28 pixels the network saw: nothing yet");
  }

  /** Says why there is no answer. @param {string} reason */
  explain(reason) {
    this.clear();
    this.words.textContent = reason;
  }

  #paintSeen() {
    const context = contextOf(this.seen);
    context.clearRect(0, 0, this.seen.width, this.seen.height);
    context.fillStyle = getComputedStyle(this.seen).color;
    this.#pixels.forEach((row, y) =>
      row.forEach((ink, x) => {
        context.globalAlpha = ink / 255;
        context.fillRect(x, y, 1, 1);
      }),
    );
  }
}

/** The second thought, where it is one. @param {Prediction} prediction */
function alternative({ digit, probabilities }) {
  const others = probabilities
    .map((probability, other) => ({ probability, other }))
    .filter(({ other }) => other !== digit);
  const second = others.reduce((best, next) => (next.probability > best.probability ? next : best));
  return second.probability < 0.1 ? "" : `; else a ${second.other}`;
}
