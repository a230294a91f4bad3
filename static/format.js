// @ts-check
/** Numbers, times and networks as people read them. */

/** @typedef {import("./api.js").Layer} Layer */
/** @typedef {import("./api.js").TrainSpec} TrainSpec */

const NARROW_SPACE = "\u202f";
const HARD_SPACE = "\u00a0";
const wholes = new Intl.NumberFormat("en");
const threeDigits = new Intl.NumberFormat("en", { minimumSignificantDigits: 3, maximumSignificantDigits: 3 });
const shorts = new Intl.NumberFormat("en", { maximumFractionDigits: 2, notation: "compact", signDisplay: "negative" });
const dates = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "medium" });
const ordinals = new Intl.PluralRules("en", { type: "ordinal" });
const distances = new Intl.RelativeTimeFormat("en", { numeric: "auto" });

/** @param {number} count */
export const count = (count) => wholes.format(Math.round(count));

/** @param {number} loss */
export const loss = (loss) => (Number.isFinite(loss) ? threeDigits.format(loss) : "not a number");

/** A number of any size in few signs. @param {number} value */
export const short = (value) => shorts.format(value).replace("-", "−");

/** @param {number} share  0 to 1 @param {number} [digits] */
export const percent = (share, digits = 2) => `${(100 * share).toFixed(digits)}${NARROW_SPACE}%`;

/** A probability, never rounded to a certainty. @param {number} probability  0 to 1 */
export function sureness(probability) {
  if (probability > 0.999) return `>${NARROW_SPACE}99.9${NARROW_SPACE}%`;
  return percent(probability, 1);
}

/** The same in whole percents, for a crowded place. @param {number} probability  0 to 1 */
export function shortSureness(probability) {
  if (probability >= 0.995) return `>${NARROW_SPACE}99${NARROW_SPACE}%`;
  return percent(probability, 0);
}

/** @param {number} seconds */
export function duration(seconds) {
  const rounded = Math.round(seconds);
  if (seconds < 1) return "under 1 s";
  if (rounded < 60) return `${rounded} s`;
  if (rounded < 3600) return `${Math.floor(rounded / 60)} min ${rounded % 60} s`;
  return `${Math.floor(rounded / 3600)} h ${Math.floor((rounded % 3600) / 60)} min`;
}

/** A time that is only guessed. @param {number} seconds */
function roughly(seconds) {
  const minutes = Math.round(seconds / 60);
  if (seconds < 5) return "any moment";
  if (seconds < 60) return `in about ${5 * Math.round(seconds / 5)} s`;
  if (minutes < 60) return `in about ${minutes} min`;
  return `in about ${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/** @param {number} number  from 1 */
function ordinal(number) {
  const endings = { one: "st", two: "nd", few: "rd", other: "th" };
  return `${count(number)}${endings[/** @type {keyof typeof endings} */ (ordinals.select(number))]}`;
}

/** A waiting run's place in the queue. @param {{queue_position: number | null, starts_in_seconds: number | null}} run */
export function place({ queue_position: position, starts_in_seconds: seconds }) {
  if (position === null) return "";
  const rank = position === 1 ? "next in line" : `${ordinal(position)} in line`;
  return `${rank}, ${seconds === null ? "waiting for a worker" : `starts ${roughly(seconds)}`}`;
}

/** @param {string} start @param {string} end  ISO 8601 @returns {number} seconds */
export const secondsBetween = (start, end) => Math.max(0, (Date.parse(end) - Date.parse(start)) / 1000);

/** @param {string} moment  ISO 8601 */
export const date = (moment) => dates.format(new Date(moment));

/**
 * What tells several apart: where titles are the same, their dates.
 * @template {{created_at: string}} T @param {T[]} things @param {(thing: T) => string} titleOf @returns {string[]}
 */
export function titles(things, titleOf) {
  const all = things.map(titleOf);
  const isAlone = (/** @type {string} */ title) => all.indexOf(title) === all.lastIndexOf(title);
  return things.map((thing, index) => (isAlone(all[index]) ? all[index] : `${all[index]}, ${date(thing.created_at)}`));
}

/** @param {string} moment  ISO 8601 */
export function ago(moment) {
  const seconds = (Date.now() - Date.parse(moment)) / 1000;
  if (seconds < 60) return "just now";
  if (seconds < 3600) return distances.format(-Math.floor(seconds / 60), "minute");
  if (seconds < 86_400) return distances.format(-Math.floor(seconds / 3600), "hour");
  return distances.format(-Math.floor(seconds / 86_400), "day");
}

/** @param {Layer} layer @returns {string}  such as "dense 500 sigmoid" or "conv2d 32 3×3 relu" */
export function layer({ type, ...settings }) {
  const isNumber = (/** @type {unknown} */ value) => Number(typeof value === "number");
  const numbersFirst = Object.entries(settings).sort(([, one], [, other]) => isNumber(other) - isNumber(one));
  return [words(type), ...numbersFirst.map(([name, value]) => setting(name, value))].filter(Boolean).join(" ");
}

/** What is left to its usual value needs no word. */
const UNSAID = new Set(["linear", "valid", "same", "none", "glorot_uniform", "zeros"]);

/** @param {string} name @param {unknown} value @returns {string} */
function setting(name, value) {
  if (typeof value === "number")
    return ["units", "filters", "rate"].includes(name) ? String(value) : sized(name, value);
  if (typeof value === "string") return UNSAID.has(value) ? "" : words(value);
  if (Array.isArray(value)) return value.every((side) => typeof side === "number") ? value.join("×") : "";
  return "";
}

/** @param {string} name @param {number} value */
function sized(name, value) {
  if (name === "strides" && value > 1) return `stride ${value}`;
  return name.endsWith("_size") ? `${value}×${value}` : "";
}

/** @param {string} identifier */
export const words = (identifier) => identifier.replaceAll("_", " ");

/** What one sees of a spec at a glance; it breaks between its parts only. @param {TrainSpec} spec */
export function spec({ loss, optimizer, batch_size, epochs }) {
  const method = `${optimizer.type} ${learningRate(optimizer.learning_rate)}`;
  const length = `batch ${count(batch_size)} · ${count(epochs)} ${epochs === 1 ? "epoch" : "epochs"}`;
  const other = lossName(loss) === "categorical_crossentropy" ? [] : [words(lossName(loss))];
  return [method, length, ...other].map(hard).join(`${hard(" ·")} `);
}

/** @param {TrainSpec["loss"]} loss */
export const lossName = (loss) => (typeof loss === "string" ? loss : loss.type);

/** A text in one piece. @param {string} text */
export const hard = (text) => text.replaceAll(" ", HARD_SPACE);

/** @param {import("./api.js").Rate} rate */
export function learningRate(rate) {
  if (typeof rate === "number") return String(rate);
  return `${rate[scheduledRate(rate)]}, ${words(rate.type)}`;
}

/** The member of a schedule that says how fast it learns at first. @param {Record<string, unknown>} schedule @returns {string} */
export function scheduledRate(schedule) {
  const rates = Object.keys(schedule).filter((name) => name.endsWith("learning_rate"));
  return rates.find((name) => name.startsWith("initial")) ?? rates[0] ?? "learning_rate";
}
