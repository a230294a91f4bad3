// @ts-check
/** Small images made of numbers: what the network saw, which of it spoke for its answer, what a layer made of it. */
import { contextOf } from "./painting.js";

/** @typedef {import("./api.js").LayerActivations} LayerActivations */

const CELL = 8;
/** In numbers: how many stand beside each other at most. */
const WIDTH = 432;
const COLUMNS = 16;
const UNIT_COLUMNS = 32;
/** In pixels of the page: how large a number is, and all of them together. */
const LARGEST_CHANNEL_CELL = 4;
const UNIT_CELL = 10;
const SHOWN_WIDTH = 864;

/**
 * Ink in the canvas' own colour.
 * @param {HTMLCanvasElement} canvas  of a pixel a cell @param {readonly number[][]} rows  of 0–255
 */
export function paintInk(canvas, rows) {
  const context = contextOf(canvas);
  context.clearRect(0, 0, canvas.width, canvas.height);
  context.fillStyle = getComputedStyle(canvas).color;
  rows.forEach((row, y) =>
    row.forEach((ink, x) => {
      context.globalAlpha = ink / 255;
      context.fillRect(x, y, 1, 1);
    }),
  );
  context.globalAlpha = 1;
}

/**
 * Faint ink and over it a full square for what spoke for the answer, a dot for what spoke against it.
 * @param {HTMLCanvasElement} canvas
 * @param {readonly number[][]} seen  rows of 0–255
 * @param {readonly number[][]} saliency  rows of -1 to 1
 * @param {{ink: string, pro: string, contra: string}} colors
 */
export function paintSaliency(canvas, seen, saliency, { ink, pro, contra }) {
  canvas.width = canvas.height = seen.length * CELL; // empties it, too
  const context = contextOf(canvas);
  const square = (/** @type {number} */ x, /** @type {number} */ y, /** @type {number} */ inset) =>
    context.fillRect(x * CELL + inset, y * CELL + inset, CELL - 2 * inset, CELL - 2 * inset);
  seen.forEach((row, y) =>
    row.forEach((level, x) => {
      const weight = saliency[y][x];
      context.fillStyle = ink;
      context.globalAlpha = 0.22 * (level / 255);
      square(x, y, 0);
      context.fillStyle = weight > 0 ? pro : contra;
      context.globalAlpha = Math.sqrt(Math.abs(weight)); // what is weak is to be seen as well
      square(x, y, weight > 0 ? 0 : 2);
    }),
  );
}

/** @param {HTMLCanvasElement} canvas @param {LayerActivations} layer  its channels side by side, or its units in rows */
export function paintLayer(canvas, { shape, values }) {
  const bytes = Uint8Array.from(atob(values), (character) => character.charCodeAt(0));
  const [count, height, width] = [shape[0], shape[1] ?? 1, shape[2] ?? 1];
  const gap = shape.length === 1 ? 0 : 1;
  const columns = Math.min(count, gap ? Math.min(COLUMNS, Math.floor(WIDTH / (width + gap))) : UNIT_COLUMNS);
  canvas.width = columns * (width + gap) - gap;
  canvas.height = Math.ceil(count / columns) * (height + gap) - gap;
  const cell = gap ? Math.min(LARGEST_CHANNEL_CELL, Math.floor(SHOWN_WIDTH / canvas.width)) : UNIT_CELL;
  canvas.style.inlineSize = `${canvas.width * cell}px`;
  const context = contextOf(canvas);
  context.fillStyle = getComputedStyle(canvas).color;
  bytes.forEach((value, index) => {
    const [tile, place] = [Math.floor(index / (height * width)), index % (height * width)];
    const left = (tile % columns) * (width + gap) + (place % width);
    const top = Math.floor(tile / columns) * (height + gap) + Math.floor(place / width);
    context.globalAlpha = 0.04 + (0.96 * value) / 255; // what is zero is still a place
    context.fillRect(left, top, 1, 1);
  });
}
