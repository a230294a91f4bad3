// @ts-check
/** The ten digits as pen strokes, for those who cannot or would rather not draw. */
import { element, svg } from "./dom.js";

/** @typedef {import("./canvas.js").Stroke} Stroke */

/** In units of the sheet's side, y down; a point given twice makes a corner. @type {readonly Stroke[][]} */
const SAMPLES = [
  [[[0.55, 0.18], [0.44, 0.17], [0.34, 0.27], [0.29, 0.45], [0.3, 0.63], [0.37, 0.77], [0.48, 0.83], [0.6, 0.79], [0.69, 0.66], [0.71, 0.48], [0.68, 0.31], [0.6, 0.2], [0.51, 0.17]]],
  [[[0.41, 0.31], [0.48, 0.24], [0.54, 0.17], [0.54, 0.17], [0.53, 0.34], [0.52, 0.52], [0.51, 0.68], [0.5, 0.84]]],
  [[[0.32, 0.32], [0.37, 0.21], [0.48, 0.16], [0.6, 0.19], [0.66, 0.3], [0.62, 0.43], [0.52, 0.56], [0.41, 0.69], [0.31, 0.81], [0.31, 0.81], [0.44, 0.8], [0.58, 0.8], [0.71, 0.82]]],
  [[[0.33, 0.24], [0.42, 0.17], [0.55, 0.17], [0.64, 0.25], [0.62, 0.37], [0.54, 0.45], [0.43, 0.47], [0.43, 0.47], [0.57, 0.49], [0.67, 0.58], [0.67, 0.71], [0.58, 0.81], [0.45, 0.83], [0.33, 0.77]]],
  [[[0.44, 0.17], [0.39, 0.32], [0.33, 0.46], [0.27, 0.58], [0.27, 0.58], [0.42, 0.58], [0.57, 0.57], [0.73, 0.56]], [[0.6, 0.36], [0.59, 0.52], [0.58, 0.68], [0.57, 0.85]]],
  [[[0.37, 0.19], [0.36, 0.32], [0.34, 0.46], [0.34, 0.46], [0.45, 0.42], [0.58, 0.46], [0.66, 0.57], [0.65, 0.71], [0.56, 0.81], [0.43, 0.83], [0.31, 0.77]], [[0.37, 0.19], [0.5, 0.19], [0.66, 0.17]]],
  [[[0.6, 0.16], [0.48, 0.25], [0.38, 0.39], [0.33, 0.56], [0.35, 0.72], [0.45, 0.82], [0.57, 0.81], [0.66, 0.71], [0.65, 0.59], [0.56, 0.52], [0.45, 0.55], [0.36, 0.65]]],
  [[[0.29, 0.2], [0.42, 0.2], [0.56, 0.19], [0.7, 0.19], [0.7, 0.19], [0.63, 0.34], [0.55, 0.51], [0.48, 0.67], [0.43, 0.84]]],
  [[[0.62, 0.24], [0.52, 0.17], [0.4, 0.21], [0.37, 0.32], [0.44, 0.43], [0.55, 0.51], [0.64, 0.62], [0.62, 0.76], [0.51, 0.83], [0.39, 0.78], [0.36, 0.66], [0.44, 0.54], [0.56, 0.43], [0.64, 0.33], [0.62, 0.24]]],
  [[[0.64, 0.31], [0.56, 0.19], [0.44, 0.19], [0.35, 0.29], [0.37, 0.42], [0.47, 0.48], [0.58, 0.44], [0.65, 0.32], [0.65, 0.32], [0.64, 0.48], [0.61, 0.66], [0.56, 0.84]]],
];

/**
 * A sample with a little of a hand's unsteadiness, so that two of the same digit differ.
 * @param {number} digit
 * @returns {Stroke[]}
 */
export function writtenSample(digit) {
  const vary = (/** @type {number} */ range) => (Math.random() - 0.5) * range;
  const [slant, width, height] = [vary(0.24), 1 + vary(0.16), 1 + vary(0.1)];
  return SAMPLES[digit].map((stroke) =>
    stroke.map(([x, y]) => {
      const [right, down] = [x - 0.5, y - 0.5];
      return /** @type {const} */ ([0.5 + right * width - down * slant, 0.5 + down * height]);
    }),
  );
}

/**
 * Fills `root` with a button a digit.
 * @param {HTMLElement} root
 * @param {(digit: number) => void} onChoice
 */
export function offerSamples(root, onChoice) {
  SAMPLES.forEach((strokes, digit) => {
    const button = element("button", { type: "button", class: "sample", "aria-label": `Write a ${digit}`, "data-digit": digit }, thumbnail(strokes));
    button.addEventListener("click", () => onChoice(digit));
    root.append(button);
  });
}

/** @param {readonly Stroke[]} strokes */
function thumbnail(strokes) {
  const lines = strokes.map((stroke) => svg("polyline", { points: stroke.join(" ") }));
  return svg("svg", { viewBox: "0.15 0.08 0.7 0.84", "aria-hidden": true }, ...lines);
}
