// @ts-check
/** What the network says to a drawing, and what it saw of it. */
import { paintInk } from "./cells.js";
import { element, find, say } from "./dom.js";
import { sureness } from "./format.js";
import { Probabilities } from "./probabilities.js";

/** @typedef {import("./api.js").Prediction} Prediction */
/** @typedef {import("./api.js").Reading} Reading */

const ADVICE = "If it is a number, turn on “Several digits”.";
/** @type {Reading} */
const NOTHING = { number: null, digits: [] };

export class Answer {
  #reading = NOTHING;
  #chosen = 0;

  /** @param {HTMLElement} root @param {(chosen: number) => void} onChoice  of one digit among several */
  constructor(root, onChoice) {
    this.root = root;
    this.onChoice = onChoice;
    this.digit = find(root, "#digit", HTMLElement);
    this.confidence = find(root, "#confidence", HTMLElement);
    this.words = find(root, ".sureness-words", HTMLElement);
    this.seen = find(root, "#seen", HTMLCanvasElement);
    this.parts = find(root, ".parts", HTMLElement);
    this.announcement = find(root, "#announcement", HTMLElement);
    this.probabilities = new Probabilities(find(root, "#probabilities", HTMLElement));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#paintSeen());
    this.clear();
  }

  /** Which of several digits the page tells more of. */
  get chosen() {
    return this.#chosen;
  }

  /** @param {Reading} reading @param {boolean} finished  only a finished stroke is read out */
  show(reading, finished) {
    const { number, digits } = reading;
    const isOther = number !== this.#reading.number || digits.length !== this.#reading.digits.length;
    this.#reading = reading;
    if (number === null) this.#chosen = 0;
    else if (isOther) this.#chosen = leastSure(digits);
    this.#show();
    if (finished) this.announcement.textContent = spoken(reading);
  }

  /** @param {string} [reason]  why there is no answer to what is drawn */
  clear(reason = "") {
    this.#reading = NOTHING;
    this.#chosen = 0;
    this.digit.textContent = this.confidence.textContent = "";
    this.words.textContent = reason;
    say(this.announcement, reason, "plain");
    this.root.classList.remove("is-doubtful", "is-number");
    this.parts.hidden = true;
    this.probabilities.show(null);
    this.#paintSeen();
    this.seen.setAttribute("aria-label", "The 28 by 28 pixels the network saw: nothing yet");
  }

  #show() {
    const { number, digits } = this.#reading;
    const prediction = digits[this.#chosen];
    const { digit, confidence, probabilities } = prediction;
    this.digit.textContent = number ?? String(digit);
    this.digit.style.setProperty("--length", String(number?.length ?? 1));
    this.root.classList.toggle("is-number", number !== null);
    this.root.classList.toggle("is-doubtful", digits.some(isDoubtful));
    this.confidence.textContent = isDoubtful(prediction) ? doubt(number) : sureness(confidence);
    this.words.textContent = isDoubtful(prediction) ? nearest(prediction) : certainty(prediction, number);
    if (isDoubtful(prediction) && number === null) this.words.textContent += ` ${ADVICE}`;
    this.probabilities.show(probabilities);
    this.#paintSeen();
    this.seen.setAttribute("aria-label", `The 28 by 28 pixels the network saw: it reads a ${digit}`);
    this.#offerParts();
  }

  #offerParts() {
    const { number, digits } = this.#reading;
    this.parts.hidden = number === null;
    if (number === null) return;
    const hadFocus = this.parts.contains(document.activeElement);
    this.parts.replaceChildren(...digits.map((digit, index) => this.#part(digit, index)));
    if (hadFocus) find(this.parts, "[aria-pressed=true]", HTMLButtonElement).focus();
  }

  /** @param {Prediction} prediction @param {number} index */
  #part(prediction, index) {
    const about = `${prediction.digit}, digit ${index + 1}${isDoubtful(prediction) ? ", does not look like one" : ""}`;
    const label = isDoubtful(prediction) ? `${prediction.digit}?` : String(prediction.digit);
    const pressed = String(index === this.#chosen);
    const button = element("button", { type: "button", class: "part", "aria-pressed": pressed, "aria-label": about }, label);
    button.addEventListener("click", () => {
      this.#chosen = index;
      this.#show();
      this.onChoice(index);
    });
    return button;
  }

  #paintSeen() {
    paintInk(this.seen, this.#reading.digits[this.#chosen]?.seen ?? []);
  }
}

/** @param {Prediction} prediction */
const isDoubtful = ({ is_digit: isDigit }) => isDigit === false;

/** @param {string | null} number */
const doubt = (number) => (number === null ? "This does not look like a digit." : "This part does not look like a digit.");

/** @param {Prediction} prediction */
const nearest = ({ digit }) => `The nearest is ${article(digit)}.`;

/** @param {number} digit */
const article = (digit) => `${digit === 8 ? "an" : "a"} ${digit}`;

/** @param {Prediction} prediction @param {string | null} number */
const certainty = (prediction, number) =>
  `sure${number === null ? "" : ` of the ${prediction.digit}`}${alternative(prediction)}`;

/** @param {Prediction[]} digits @returns {number}  its place */
function leastSure(digits) {
  const doubts = digits.map((digit) => (isDoubtful(digit) ? 2 : 1) - digit.confidence);
  return doubts.indexOf(Math.max(...doubts));
}

/** @param {Reading} reading */
function spoken({ number, digits }) {
  const [first] = digits;
  if (number !== null) return `${number}${digits.some(isDoubtful) ? ", but not all of it looks like digits" : ""}`;
  if (isDoubtful(first)) return `${doubt(null)} ${nearest(first)}`;
  return `${first.digit}, ${sureness(first.confidence)} sure`;
}

/** The second thought, where it is one. @param {Prediction} prediction */
function alternative({ digit, probabilities }) {
  const others = probabilities
    .map((probability, other) => ({ probability, other }))
    .filter(({ other }) => other !== digit);
  const second = others.reduce((best, next) => (next.probability > best.probability ? next : best));
  return second.probability < 0.1 ? "" : `; else ${article(second.other)}`;
}
