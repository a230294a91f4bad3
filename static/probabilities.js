// @ts-check
/** The ten probabilities, each a bar and a number. */
import { element } from "./dom.js";
import { shortSureness } from "./format.js";

export class Probabilities {
  #rows;

  /** @param {HTMLElement} root */
  constructor(root) {
    this.#rows = Array.from({ length: 10 }, (_, digit) => row(digit));
    root.replaceChildren(...this.#rows.map(({ item }) => item));
    this.show(null);
  }

  /** @param {readonly number[] | null} probabilities  of the digits 0 to 9; null while there is nothing to say */
  show(probabilities) {
    const most = probabilities ? Math.max(...probabilities) : NaN;
    this.#rows.forEach(({ item, fill, figure }, digit) => {
      const probability = probabilities?.[digit] ?? 0;
      fill.style.setProperty("--share", probability.toFixed(4));
      figure.textContent = probabilities ? shortSureness(probability) : "";
      item.classList.toggle("is-most", probability === most);
      item.classList.toggle("is-least", probability < 0.005);
    });
  }
}

/** @param {number} digit */
function row(digit) {
  const fill = element("span", { class: "bar-fill" });
  const figure = element("span", { class: "bar-figure" });
  const bar = element("span", { class: "bar", "aria-hidden": true }, fill);
  const item = element(
    "li",
    { "data-digit": digit },
    element("span", { class: "bar-digit" }, String(digit)),
    bar,
    figure,
  );
  return { item, fill, figure };
}
