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
  /** @type {{finished: boolean} | null} */
  #wanted = null;

  /**
   * @param {Sheet} sheet
   * @param {{model: () => string, onAnswer: (reading: Reading, finished: boolean, question: Question) => void,
   *   onProblem: (problem: Problem) => void}} options
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

  async #askUntilAnswered() {
    while (this.#wanted && !this.sheet.isBlank) {
      const { finished } = this.#wanted;
      this.#wanted = null;
      await this.#askOnce(finished);
      await new Promise((resolve) => setTimeout(resolve, INTERVAL_MS));
    }
  }

  /** @param {boolean} finished */
  async #askOnce(finished) {
    const { model, onAnswer, onProblem } = this.options;
    const { several } = this.sheet;
    try {
      const question = { drawing: await this.sheet.snapshot(), model: model(), several };
      const reading = await predict(question.drawing, question, ["seen"]);
      if (!this.sheet.isBlank && this.sheet.several === several) onAnswer(reading, finished, question);
    } catch (cause) {
      onProblem(problemOf(cause));
    }
  }
}
