// @ts-check
/** Frames over the sheet around the digits that were read, each with its name. */
import { svg } from "./dom.js";

/** @typedef {{digit: number, box: readonly [number, number, number, number]}} Framed  in units of the sheet's side */

const SIDE = 100;
const ROOM = 0.8;

export class Boxes {
  /** @param {SVGElement} root */
  constructor(root) {
    this.root = root;
    root.setAttribute("viewBox", `0 0 ${SIDE} ${SIDE}`);
  }

  /** @param {Framed[]} digits @param {number} [chosen]  the one that the page tells more of */
  show(digits, chosen = -1) {
    this.root.replaceChildren(...digits.map((digit, index) => frame(digit, index === chosen)));
  }
}

/** @param {Framed} framed @param {boolean} isChosen */
function frame({ digit, box }, isChosen) {
  const [x, y, width, height] = box.map((length) => length * SIDE);
  const [left, top] = [x - ROOM, y - ROOM];
  const sides = { x: left, y: top, width: width + 2 * ROOM, height: height + 2 * ROOM, rx: 1 };
  const name = svg("text", { x: left, y: top < 8 ? y + height + 2 * ROOM + 4 : top - 1.5 }, String(digit));
  return svg("g", { class: isChosen ? "box is-chosen" : "box" }, svg("rect", sides), name);
}
