// @ts-check
/** Where on a digit that lies which spoke for it, in words. */

/** @typedef {import("./api.js").Prediction} Prediction */

const PLACES = [
  ["at the top left", "at the top", "at the top right"],
  ["on the left", "in the middle", "on the right"],
  ["at the bottom left", "at the bottom", "at the bottom right"],
];
/** Of all that spoke, less than this share is not worth a word. */
const SLIGHT = 0.05;

/** @param {Prediction} prediction  with what was seen and its saliency */
export function regions({ digit, seen = [], saliency = [] }) {
  const pro = weights(seen, saliency, 1);
  const contra = weights(seen, saliency, -1);
  const all = pro.total + contra.total;
  if (all === 0) return "No ink spoke for it or against it.";
  const isFor = pro.total / all >= SLIGHT;
  const isAgainst = contra.total / all >= SLIGHT;
  const first = isFor ? `Most of what spoke for the ${digit} is ${pro.place}` : `Hardly any ink spoke for the ${digit}`;
  return `${first}; ${isAgainst ? `most of what spoke against it is ${contra.place}` : "hardly any ink spoke against it"}.`;
}

/** How much is of the sign, and in which ninth of the inked box most of it is.
 * @param {readonly number[][]} seen @param {readonly number[][]} saliency @param {1 | -1} sign */
function weights(seen, saliency, sign) {
  const third = thirds(seen);
  const ninths = [0, 0, 0].map(() => [0, 0, 0]);
  saliency.forEach((row, y) =>
    row.forEach((weight, x) => {
      if (weight * sign > 0) ninths[third(y, 0)][third(x, 1)] += Math.abs(weight);
    }),
  );
  const flat = ninths.flat();
  const most = flat.indexOf(Math.max(...flat));
  return { total: flat.reduce((sum, weight) => sum + weight, 0), place: PLACES[Math.floor(most / 3)][most % 3] };
}

/** @param {readonly number[][]} seen @returns {(place: number, axis: 0 | 1) => number}  0 to 2 */
function thirds(seen) {
  const inked = seen.flatMap((row, y) => row.flatMap((ink, x) => (ink > 0 ? [[y, x]] : [])));
  const ends = [0, 1].map((axis) => {
    const places = inked.map((place) => place[axis]);
    return [Math.min(...places), Math.max(...places) + 1];
  });
  return (place, axis) => Math.min(2, Math.floor((3 * (place - ends[axis][0])) / (ends[axis][1] - ends[axis][0])));
}
