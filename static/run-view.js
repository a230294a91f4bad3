// @ts-check
/** The watched run on the page: its state, its progress and its curves, live or afterwards. */
import { Beside } from "./beside.js";
import { Chart, logarithmic, upToOne } from "./chart.js";
import { find, say } from "./dom.js";
import { EpochTable } from "./epoch-table.js";
import * as format from "./format.js";
import { hasLearned } from "./model-choice.js";
import { RunFacts } from "./run-facts.js";
import { isActive } from "./run-record.js";

/** @typedef {import("./api.js").Model} Model */
/** @typedef {import("./api.js").Run} Run */
/** @typedef {import("./api.js").RunSummary} RunSummary */

const PHASES = { preparing: "getting ready", training: "training", evaluating: "being examined on the test images" };

export class RunView {
  #frame = 0;

  /**
   * @param {HTMLElement} root
   * @param {import("./watched-run.js").WatchedRun} watched
   * @param {{deletion: import("./deletion.js").Deletion, modelOf: (run: Run) => Model | undefined,
   *   onDraw: (model: Model) => void, onReport: (model: Model) => void, onAgain: (run: Run) => void,
   *   onDelete: () => void}} options  `modelOf`: what a run has published, if it is there; `onDraw`: it is to answer the
   *   canvas; `onAgain`: the run is to be changed and trained again; `onDelete`: the run is gone
   */
  constructor(root, watched, options) {
    this.watched = watched;
    this.options = options;
    const part = (/** @type {string} */ selector) => find(root, selector, HTMLElement);
    this.empty = part(".watch-empty");
    this.body = part(".watch-run");
    this.name = part("#run-name");
    this.state = part("#run-state");
    this.queue = part(".run-queue");
    this.spec = part(".run-spec");
    this.facts = new RunFacts(part(".facts"));
    this.message = part(".run-message");
    this.curves = [".charts", ".legend", ".epochs"].map(part);
    this.validationLegend = part(".legend-validation");
    this.besideLegend = part(".legend-beside");
    this.beside = new Beside(part(".beside"), () => this.show());
    this.table = new EpochTable(find(root, ".epochs table", HTMLTableElement));
    this.progress = find(root, "#run-progress", HTMLProgressElement);
    this.drawButton = find(root, "#run-draw", HTMLButtonElement);
    this.drawButton.addEventListener("click", () => this.#model && options.onDraw(this.#model));
    this.reportButton = find(root, "#run-report", HTMLButtonElement);
    this.reportButton.addEventListener("click", () => this.#model && options.onReport(this.#model));
    find(root, "#run-again", HTMLButtonElement).addEventListener("click", () => this.#run && options.onAgain(this.#run));
    this.cancelButton = find(root, "#cancel", HTMLButtonElement);
    this.cancelButton.addEventListener("click", () => this.#cancel());
    this.deleteButton = find(root, "#delete-run", HTMLButtonElement);
    this.deleteButton.addEventListener("click", () => this.#run && this.#delete(this.#run));
    this.loss = new Chart(part("#loss-chart"), { scale: logarithmic, format: format.loss, tick: String });
    this.accuracy = new Chart(part("#accuracy-chart"), {
      scale: upToOne,
      format: format.percent,
      tick: (share) => format.percent(share, (share * 100) % 1 ? 1 : 0),
    });
  }

  get #run() {
    return this.watched.run;
  }

  get #model() {
    return this.#run ? this.options.modelOf(this.#run) : undefined;
  }

  /** Another run is watched. */
  open() {
    this.beside.leaveOut(this.watched.id ?? "");
    this.#showNow();
  }

  /** Others to be shown beside the watched one. @param {RunSummary[]} runs */
  offer(runs) {
    this.empty.hidden = this.watched.isTaken;
    this.beside.offer(runs);
    this.show(); // it is longer ago that it ended
  }

  async #cancel() {
    this.cancelButton.disabled = true;
    try {
      await this.watched.cancel();
    } finally {
      this.cancelButton.disabled = false;
    }
    // What is disabled, or goes, loses the focus.
    const isOver = this.#run && !isActive(this.#run);
    if (document.activeElement === document.body) (isOver ? this.name : this.cancelButton).focus({ preventScroll: true });
  }

  /** @param {Run} run */
  async #delete(run) {
    const text = `“${run.name}”, its curves and its numbers cannot be brought back. A model that it gave stays.`;
    if (!(await this.options.deletion.isWanted("Delete this run?", text))) return;
    if (!(await this.watched.delete(run.id))) return;
    this.body.hidden = true;
    this.empty.hidden = false;
    this.options.onDelete();
  }

  /** Anew; many events of a replayed run cost one frame. */
  show() {
    cancelAnimationFrame(this.#frame);
    this.#frame = requestAnimationFrame(() => this.#showNow());
  }

  #showNow() {
    const run = this.#run;
    if (!run) return;
    this.empty.hidden = true;
    this.body.hidden = false;
    this.name.textContent = run.name;
    this.spec.textContent = `${run.user ? `${run.user}: ` : ""}${run.spec.network.map(format.layer).join(" → ")}, with ${format.spec(run.spec)}`;
    this.#showState(run);
    this.#showProgress(run);
    this.facts.show(run, this.watched.record);
    this.#showCurves(run);
  }

  /** @param {Run} run */
  #showState(run) {
    say(this.state, run.state, "plain");
    this.state.dataset.state = run.state;
    this.queue.textContent = this.#stateDetail(run);
    this.drawButton.hidden = this.reportButton.hidden = !this.#model;
    this.cancelButton.hidden = !isActive(run);
    this.deleteButton.hidden = isActive(run);
    const wrong = this.watched.refusal || run.error || this.watched.trouble;
    if (wrong) say(this.message, wrong);
    else if (isActive(run)) say(this.message, this.#news, "plain");
    else this.#sayOutcome();
  }

  /** Of the training's course, where it is worth a word. */
  get #news() {
    if (!this.watched.isConnected) return "The connection is lost; trying again.";
    return this.watched.record.isBehind ? "The training was interrupted and starts again." : "";
  }

  #sayOutcome() {
    if (!this.#model) return say(this.message, "");
    const outcome = `It names ${format.percent(this.#model.scores.accuracy)} of the test images right.`;
    if (hasLearned(this.#model)) say(this.message, outcome, "good");
    else say(this.message, `${outcome} It has learned nothing; try another learning rate.`);
  }

  /** @param {Run} run */
  #stateDetail(run) {
    const { state, ended_at: ended } = run;
    if (state === "queued") return format.place(run);
    const { phase, note } = this.watched.record.latest ?? {};
    if (state === "running")
      return [phase === "training" || !phase ? "" : PHASES[phase], note ?? ""].filter(Boolean).join(" · ");
    return ended ? format.ago(ended) : "";
  }

  /** @param {Run} run */
  #showProgress({ state }) {
    const latest = this.watched.record.latest;
    if (state === "succeeded") this.progress.value = 1;
    else if (latest && latest.step > 0) this.progress.value = latest.step / latest.steps;
    else if (state === "running") this.progress.removeAttribute("value");
    else this.progress.value = 0;
  }

  /** @param {Run} run */
  #showCurves(run) {
    const lossBeside = this.beside.epochs("loss");
    const epochs = Math.max(lengthOf(run), this.beside.run ? lengthOf(this.beside.run) : 0);
    const loss = this.watched.record.curve("loss");
    const isEmpty = loss.line.length + loss.epochs.length === 0;
    for (const part of this.curves) part.hidden = isEmpty && !isActive(run);
    this.beside.root.hidden = this.curves[0].hidden || this.beside.isEmpty;
    this.besideLegend.hidden = lossBeside.length === 0;
    this.loss.show(loss, lossBeside, epochs);
    this.accuracy.show(this.watched.record.curve("accuracy"), this.beside.epochs("accuracy"), epochs);
    this.validationLegend.hidden = loss.validation.length === 0;
    this.table.show(this.watched.record.epochs);
  }
}

/** In epochs; what has ended may have been planned longer. @param {Run} run */
const lengthOf = (run) => (isActive(run) ? run.spec.epochs : run.progress?.epoch || 1);
