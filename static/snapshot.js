// @ts-check
/** What is sent of a sheet: a small picture of the drawing, and where its pixels lie on the sheet. */
import { contextOf, paintStrokes } from "./painting.js";
import { grayscalePng } from "./png.js";

/** @typedef {import("./canvas.js").Drawing} Drawing */
/** @typedef {import("./canvas.js").Stroke} Stroke */
/** @typedef {[left: number, top: number, width: number, height: number]} Box */

/** Share of the sheet's side; about what a marker on MNIST's 20-pixel box comes to. */
export const LINE_WIDTH = 0.08;
/** For several digits, each of which has a part of the sheet. */
export const THIN_LINE_WIDTH = 0.032;
/** Of a small drawing's longer side: no thicker in the snapshot than a marker would be, lest the strokes run together. */
const SMALL_LINE_WIDTH = 0.12;
const SIDE = 112;
const SEVERAL_SIDE = 256;
/** A snapshot shows this much more than the ink; what fills half the sheet is not enlarged. */
const ROOM = 2;

/**
 * A small PNG: ink black on white; a picture keeps its own colours.
 * @param {Drawing} drawing
 * @param {boolean} several  whether it may be of several digits, which are shown as they lie
 * @returns {Promise<Blob>}
 */
export function snapshot({ strokes, picture }, several) {
  if (picture) return pictureSnapshot(picture);
  return several ? strokesSnapshot(strokes, SEVERAL_SIDE, THIN_LINE_WIDTH) : enlargedSnapshot(strokes);
}

/**
 * Where a box of a snapshot of several digits lies on the sheet, in units of its side.
 * @param {Box} box  in the snapshot's pixels
 * @param {Drawing} drawing
 * @returns {Box}
 */
export function onSheet([left, top, width, height], { picture }) {
  const [wide, high] = picture ? [picture.width, picture.height] : [SEVERAL_SIDE, SEVERAL_SIDE];
  const side = Math.max(wide, high);
  return [(left + (side - wide) / 2) / side, (top + (side - high) / 2) / side, width / side, height / side];
}

/** From where to where strokes go. @param {readonly Stroke[]} strokes @param {0 | 1} axis */
export function extent(strokes, axis) {
  let [low, high] = [Infinity, -Infinity];
  for (const point of strokes.flat()) [low, high] = [Math.min(low, point[axis]), Math.max(high, point[axis])];
  return { low, high, length: high - low, middle: (low + high) / 2 };
}

/** A small drawing as large as the sheet, with a pen to match; a large one stays as it is. @param {readonly Stroke[]} strokes */
function enlargedSnapshot(strokes) {
  const [xs, ys] = [extent(strokes, 0), extent(strokes, 1)];
  const size = Math.max(xs.length, ys.length);
  const pen = Math.max(1 / SIDE, Math.min(LINE_WIDTH, SMALL_LINE_WIDTH * size)); // a dot has no size
  const side = Math.min(1, ROOM * (size + pen));
  const [left, top] = side === 1 ? [0, 0] : [xs.middle - side / 2, ys.middle - side / 2];
  const shown = strokes.map((stroke) =>
    stroke.map(([x, y]) => /** @type {const} */ ([(x - left) / side, (y - top) / side])),
  );
  return strokesSnapshot(shown, SIDE, pen / side);
}

/** @param {readonly Stroke[]} strokes @param {number} side  in pixels @param {number} lineWidth @returns {Promise<Blob>} */
function strokesSnapshot(strokes, side, lineWidth) {
  const context = sheetOf(side, side);
  context.fillStyle = "white";
  context.fillRect(0, 0, side, side);
  paintStrokes(context, strokes, "black", lineWidth);
  return grayscalePng(context.getImageData(0, 0, side, side));
}

/** What is transparent stays so: the service reads alpha as ink. @param {ImageBitmap} picture @returns {Promise<Blob>} */
function pictureSnapshot(picture) {
  const context = sheetOf(picture.width, picture.height);
  context.drawImage(picture, 0, 0);
  return new Promise((resolve, reject) => {
    context.canvas.toBlob(
      (blob) => (blob ? resolve(blob) : reject(new Error("The browser could not encode the picture."))),
      "image/png",
    );
  });
}

/** @param {number} width @param {number} height */
function sheetOf(width, height) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [width, height];
  return contextOf(canvas);
}
