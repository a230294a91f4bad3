// @ts-check
/** One run, watched: its state, its progress and its curves, live or afterwards. */
import { cancel, deleteRun, follow, problemOf, run } from "./api.js";
import { Beside } from "./beside.js";
import { Chart, logarithmic, upToOne } from "./chart.js";
import { find, say } from "./dom.js";
import { EpochTable } from "./epoch-table.js";
import * as format from "./format.js";
import { hasLearned } from "./model-choice.js";
import { Poll } from "./poll.js";
import { RunFacts } from "./run-facts.js";
import { isActive, RunRecord } from "./run-record.js";

/** @typedef {import("./api.js").Model} Model */
/** @typedef {import("./api.js").Run} Run */
/** @typedef {import("./api.js").RunSummary} RunSummary */

const WAITING_MS = 4_000;
const ENDING_MS = 1_000;
const PHASES = { preparing: "getting ready", training: "training", evaluating: "being examined on the test images" };

export class RunView {
  /** @type {Run | null} */
  #run = null;
  #record = new RunRecord();
  /** The run that is asked for, until it is watched. */
  #wanted = "";
  #stop = () => {};
  #hasEnded = false;
  /** Of these, and of the run's error, the message says one: why what was asked for here was not done, */
  #refusal = "";
  /** why nothing newer is known, */
  #trouble = "";
  /** and whether the events arrive. */
  #isConnected = true;
  #poll = new Poll(() => this.#refresh());
  #frame = 0;

  /**
   * @param {HTMLElement} root
   * @param {{deletion: import("./deletion.js").Deletion, modelOf: (run: Run) => Model | undefined,
   *   onDraw: (model: Model) => void, onReport: (model: Model) => void, onAgain: (run: Run) => void, onChange: () => void,
   *   onDelete: () => void}} options  `modelOf`: what a run has published, if it is there; `onDraw`: it is to answer the
   *   canvas; `onAgain`: the run is to be changed and trained again; `onChange`: the watched run's state has changed, or
   *   another run is gone; `onDelete`: the watched one is gone
   */
  constructor(root, options) {
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

  /** Whether a run is watched, or is about to be. */
  get isTaken() {
    return this.#wanted !== "" || this.#run !== null;
  }

  get run() {
    return this.#run;
  }

  get #model() {
    return this.#run ? this.options.modelOf(this.#run) : undefined;
  }

  /** The watched run's id, if there is one. */
  get id() {
    return this.#run?.id;
  }

  /** @param {string} id  the last that is asked for is watched, whichever arrives first */
  async open(id) {
    this.#wanted = id;
    try {
      const opened = await run(id);
      if (this.#wanted === id) this.watch(opened);
    } catch (cause) {
      if (this.#wanted === id) this.#refusal = problemOf(cause).message;
      this.show();
      throw cause;
    } finally {
      if (this.#wanted === id) this.#wanted = "";
    }
  }

  /** @param {Run} run */
  watch(run) {
    this.#wanted = "";
    this.#run = run;
    this.#hasEnded = false;
    this.#record = new RunRecord(run.progress, run.history);
    this.#refusal = this.#trouble = "";
    this.#isConnected = true;
    this.#follow(run.id);
    this.beside.leaveOut(run.id);
    this.#showNow();
    this.#askAgain();
  }

  /** Lets the connection go while nobody looks: a browser has only six for a site, in all its tabs. */
  rest() {
    this.#stop();
  }

  resume() {
    if (this.#run && !this.#hasEnded) this.#follow(this.#run.id);
  }

  /** Takes what is new about the watched one, and offers others to be shown beside it. @param {RunSummary[]} runs */
  offer(runs) {
    this.empty.hidden = this.isTaken;
    this.beside.offer(runs);
    const listed = runs.find(({ id }) => id === this.id);
    if (listed && listed.state !== this.#run?.state) this.#refresh();
    else this.show(); // it is longer ago that it ended
  }

  /** @param {string} id */
  #follow(id) {
    this.#stop();
    if (document.hidden) return;
    this.#stop = follow(id, {
      onProgress: (progress, offset) => {
        const again = this.#record.addProgress(progress, offset);
        const started = this.#run?.state === "queued";
        if (this.#run && started) this.#accept({ ...this.#run, state: "running", queue_position: null });
        if (started || again) this.#refresh(); // events do not say which worker has it now
        this.show();
      },
      onEpoch: (report, offset) => {
        this.#record.addEpoch(report, offset);
        this.show();
      },
      onEnd: () => {
        this.#hasEnded = true;
        if (this.#run && isActive(this.#run)) this.#refresh();
      },
      onConnection: (connected) => {
        this.#isConnected = connected;
        this.show();
        if (!connected) this.#refresh();
      },
    });
  }

  /** No event tells a queued run's place, or a running one's worker; and one whose events have ended may take a moment to
   * say so. */
  #askAgain() {
    this.#poll.stop();
    const { state, worker } = this.#run ?? {};
    if (state === "running" && this.#hasEnded) this.#poll.askIn(ENDING_MS);
    else if (state === "queued" || (state === "running" && !worker)) this.#poll.askIn(WAITING_MS);
  }

  async #refresh() {
    const id = this.#run?.id;
    if (!id) return;
    try {
      this.#accept(await run(id));
    } catch (cause) {
      const { status, message } = problemOf(cause);
      if (id !== this.id) return;
      this.#trouble = message;
      this.show();
      if (status === 404) return this.#giveUp(); // gone for good, with the database it was in
    }
    this.#askAgain();
  }

  #giveUp() {
    this.#stop();
    this.#hasEnded = true;
  }

  /** @param {Run} run  another may be watched since it was asked for, or the watched one may have ended */
  #accept(run) {
    const known = this.#run;
    if (run.id !== known?.id || (isActive(run) && !isActive(known))) return;
    const changed = run.state !== known.state;
    if (changed) this.#refusal = "";
    this.#run = run;
    this.#trouble = "";
    this.show();
    if (changed) this.options.onChange();
  }

  async #cancel() {
    const { id } = this;
    if (!id) return;
    this.cancelButton.disabled = true;
    this.#refusal = "";
    try {
      this.#accept(await cancel(id));
    } catch (cause) {
      const { message } = problemOf(cause);
      if (id === this.id) this.#refusal = message;
      this.#refresh();
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
    this.#refusal = "";
    try {
      await deleteRun(run.id);
    } catch (cause) {
      const { message } = problemOf(cause);
      if (run.id === this.id) this.#refusal = message;
      return this.show();
    }
    if (run.id !== this.id) return this.options.onChange(); // another is watched meanwhile
    this.#stop();
    this.#run = null;
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
    this.spec.textContent = `${run.spec.network.map(format.layer).join(" → ")}, with ${format.spec(run.spec)}`;
    this.#showState(run);
    this.#showProgress(run);
    this.facts.show(run, this.#record);
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
    const wrong = this.#refusal || run.error || this.#trouble;
    if (wrong) say(this.message, wrong);
    else if (isActive(run)) say(this.message, this.#news, "plain");
    else this.#sayOutcome();
  }

  /** Of the training's course, where it is worth a word. */
  get #news() {
    if (!this.#isConnected) return "The connection is lost; trying again.";
    return this.#record.isBehind ? "The training was interrupted and starts again." : "";
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
    const { phase, note } = this.#record.latest ?? {};
    if (state === "running")
      return [phase === "training" || !phase ? "" : PHASES[phase], note ?? ""].filter(Boolean).join(" · ");
    return ended ? format.ago(ended) : "";
  }

  /** @param {Run} run */
  #showProgress({ state }) {
    const latest = this.#record.latest;
    if (state === "succeeded") this.progress.value = 1;
    else if (latest && latest.step > 0) this.progress.value = latest.step / latest.steps;
    else if (state === "running") this.progress.removeAttribute("value");
    else this.progress.value = 0;
  }

  /** @param {Run} run */
  #showCurves(run) {
    const lossBeside = this.beside.epochs("loss");
    const epochs = Math.max(lengthOf(run), this.beside.run ? lengthOf(this.beside.run) : 0);
    const loss = this.#record.curve("loss");
    const isEmpty = loss.line.length + loss.epochs.length === 0;
    for (const part of this.curves) part.hidden = isEmpty && !isActive(run);
    this.beside.root.hidden = this.curves[0].hidden || this.beside.isEmpty;
    this.besideLegend.hidden = lossBeside.length === 0;
    this.loss.show(loss, lossBeside, epochs);
    this.accuracy.show(this.#record.curve("accuracy"), this.beside.epochs("accuracy"), epochs);
    this.validationLegend.hidden = loss.validation.length === 0;
    this.table.show(this.#record.epochs);
  }
}

/** In epochs; what has ended may have been planned longer. @param {Run} run */
const lengthOf = (run) => (isActive(run) ? run.spec.epochs : run.progress?.epoch || 1);
