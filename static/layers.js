// @ts-check
/** The kinds of layers that a network is laid out of, and what each is given; model/spec_layers.py has their bounds. */

/** @typedef {import("./api.js").Layer} Layer */

const ACTIVATIONS = [
  "linear", "sigmoid", "tanh", "relu", "leaky_relu", "elu", "gelu", "silu", "softplus", "softmax", "hard_sigmoid",
];

/** What the page lets one set of each kind, with the values that a new layer starts with. @type {Record<string, Record<string, number | string>>} */
export const KINDS = {
  dense: { units: 100, activation: "relu" },
  conv2d: { filters: 16, kernel_size: 3, strides: 1, padding: "valid", activation: "relu" },
  max_pooling2d: { pool_size: 2 },
  average_pooling2d: { pool_size: 2 },
  global_average_pooling2d: {},
  batch_normalization: {},
  flatten: {},
  dropout: { rate: 0.2 },
  activation: { activation: "relu" },
};

/** The settings that are one of a few words. @type {Record<string, string[]>} */
export const CHOICES = { activation: ACTIVATIONS, padding: ["valid", "same"] };

/** @param {string} type @returns {Layer} */
export const newLayer = (type) => ({ type, ...KINDS[type] });
