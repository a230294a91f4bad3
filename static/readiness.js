// @ts-check
/** Whether the service can recognise yet; while it cannot, a note that says why and how far it is. */
import { connection, hasModels, problemOf, readiness, runs } from "./api.js";
import { find, say } from "./dom.js";
import { count, duration, percent } from "./format.js";
import { Poll } from "./poll.js";

/** @typedef {import("./api.js").Problem} Problem */
/** @typedef {import("./api.js").RunSummary} RunSummary */

const WAITING_MS = 3_000;
const LOADING_MS = 300;
const LOST_MS = 2_000;

export class Readiness {
  #poll = new Poll(() => this.check());
  /** @type {Promise<void> | null} */
  #checking = null;
  #wasAway = false;
  #readyAt = -Infinity;
  isReady = false;

  /** @param {HTMLElement} root @param {(wasAway: boolean) => void} onReady  `wasAway`: what was asked meanwhile was in vain */
  constructor(root, onReady) {
    this.onReady = onReady;
    this.text = find(root, ".note-text", HTMLElement);
    this.detail = find(root, ".note-detail", HTMLElement);
    this.progress = find(root, "progress", HTMLProgressElement);
    connection.addEventListener("unreachable", () => {
      this.#wasAway = true;
      // Where other requests alone fail, a look finds a service that is ready, and has them asked again.
      if (performance.now() - this.#readyAt < LOST_MS) this.#poll.askIn(LOST_MS);
      else this.check();
    });
  }

  /** One look at a time. */
  check() {
    this.#checking ??= this.#check().finally(() => (this.#checking = null));
    return this.#checking;
  }

  async #check() {
    this.#poll.stop();
    const wait = await this.#look();
    if (wait) this.#poll.askIn(wait);
  }

  /** @returns {Promise<number>} milliseconds until the next look; 0 when the service is ready */
  async #look() {
    try {
      if (!(await this.#isServing())) return (await hasModels()) ? this.#explainLoading() : await this.#explainTraining();
    } catch (cause) {
      return this.#explainProblem(problemOf(cause));
    }
    const wasAway = this.#wasAway;
    this.#wasAway = false;
    this.#readyAt = performance.now();
    this.isReady = true;
    say(this.text, "");
    this.onReady(wasAway);
    return 0;
  }

  async #isServing() {
    try {
      await readiness();
      return true;
    } catch (cause) {
      if (problemOf(cause).status !== 503) throw cause;
      return false;
    }
  }

  #explainLoading() {
    this.#say("The model is trained; it is being loaded.", "");
    return LOADING_MS;
  }

  /** @param {Problem} problem */
  #explainProblem({ status, message }) {
    if (status === 0) this.#say("The service does not answer right now.", "Trying again; your drawing stays.");
    else this.#say("The service is not ready yet.", message);
    return LOST_MS;
  }

  async #explainTraining() {
    const { runs: recent } = await runs(20);
    const active = nearestItsEnd(recent);
    if (active) this.#sayTraining(active);
    else this.#sayNoModel(recent.find(({ state }) => state === "failed"));
    return WAITING_MS;
  }

  /** @param {RunSummary | undefined} failed */
  #sayNoModel(failed) {
    this.#say(
      "There is no model yet that could name a digit.",
      failed
        ? `The training of “${failed.name}” failed: ${failed.error}. Train again below once that is mended.`
        : "Train a network below; the first that is finished answers here.",
    );
  }

  /** @param {RunSummary} run */
  #sayTraining(run) {
    const { name, progress } = run;
    this.#say(
      `Inkling is training its first model, “${name}”. It names digits as soon as that is done; draw one meanwhile.`,
      describe(run),
    );
    this.progress.hidden = false;
    if (progress && progress.step > 0) this.progress.value = progress.step / progress.steps;
    else this.progress.removeAttribute("value");
  }

  /** @param {string} text @param {string} detail */
  #say(text, detail) {
    this.#wasAway = true;
    this.isReady = false;
    this.progress.hidden = true;
    say(this.text, text, "plain");
    this.detail.textContent = detail;
  }
}

/** Of the runs that have not ended. @param {RunSummary[]} newestFirst @returns {RunSummary | undefined} */
function nearestItsEnd(newestFirst) {
  const oldestFirst = newestFirst.toReversed();
  return oldestFirst.find(({ state }) => state === "running") ?? oldestFirst.find(({ state }) => state === "queued");
}

/** How far the first model is. @param {RunSummary} run */
function describe({ state, progress, starts_in_seconds: wait }) {
  if (state === "queued" && wait === null) return "It waits for a worker.";
  if (state === "queued" || !progress || progress.phase === "preparing")
    return "Getting ready: reading the images, compiling the network.";
  const { epoch, epochs, accuracy, images_per_second: speed, seconds_left: rest } = progress;
  return [
    `Epoch ${epoch} of ${epochs}`,
    accuracy === null ? "" : `${percent(accuracy, 1)} right so far`,
    speed === null ? "" : `${count(speed)} images/s`,
    rest === null || rest === undefined ? "" : `${duration(rest)} left`,
  ]
    .filter(Boolean)
    .join(" · ");
}
