// @ts-check
/** Asks the service what a drawing says: one question at a time, always about the latest drawing. */
import { predict, problemOf } from "./api.js";

/** @typedef {import("./api.js").Reading} Reading */
/** @typedef {import("./api.js").Problem} Problem */
/** @typedef {{isBlank: boolean, several: boolean, snapshot: () => Promise<Blob>}} Sheet */
/** @typedef {{drawing: Blob, model: string, several: boolean}} Question */

/** A pause after each question, so that a class that draws at once leaves the service time to train. */
const INTERVAL_MS = 60;

export class Recogniser {
  #asking = false;
  #generation = 0;
  /** @type {{finished: boolean} | null} */
  #wanted = null;
  #endPause = () => {};

  /**
   * @param {Sheet} sheet
   * @param {{model: () => string, onAnswer: (reading: Reading, finished: boolean, question: Question) => void,
   *   onProblem: (problem: Problem) => void}} options  `onProblem`: one with a `retryAfter` is followed by another question
   */
  constructor(sheet, options) {
    this.sheet = sheet;
    this.options = options;
  }

  /** @param {boolean} finished  whether the pen has been lifted */
  async ask(finished) {
    this.#wanted = { finished };
    if (this.#asking) return;
    this.#asking = true;
    try {
      await this.#askUntilAnswered();
    } finally {
      this.#asking = false;
    }
  }

  /** What was asked so far is about another drawing: no answer to it is shown. */
  forget() {
    this.#generation += 1;
  }

  /** Asks nothing again by itself. */
  rest() {
    this.#wanted = null;
    this.#endPause();
  }

  async #askUntilAnswered() {
    while (this.#wanted && !this.sheet.isBlank) {
      const { finished } = this.#wanted;
      this.#wanted = null;
      const pause = await this.#askOnce(finished);
      await new Promise((resolve) => {
        this.#endPause = () => resolve(null);
        setTimeout(resolve, pause);
      });
    }
  }

  /** @param {boolean} finished @returns {Promise<number>} milliseconds until the next question */
  async #askOnce(finished) {
    const { model, onAnswer, onProblem } = this.options;
    const { several } = this.sheet;
    const generation = this.#generation;
    const isCurrent = () => generation === this.#generation && this.sheet.several === several;
    try {
      const asked = model() || (finished ? "" : "default"); // half a stroke is nothing to try a candidate on
      const question = { drawing: await this.sheet.snapshot(), model: asked, several };
      const reading = await predict(question.drawing, question, ["seen"]);
      if (isCurrent()) onAnswer(reading, finished, question);
    } catch (cause) {
      const problem = problemOf(cause);
      if (isCurrent()) onProblem(problem);
      if (!problem.retryAfter) return INTERVAL_MS;
      this.#wanted ??= { finished };
      return 1_000 * problem.retryAfter * (1 + Math.random()); // who was refused together comes back apart
    }
    return INTERVAL_MS;
  }
}
