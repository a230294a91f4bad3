// @ts-check
/** The run that is watched: kept up to date by its events and, where no event tells, by asking. */
import { cancel, deleteRun, follow, problemOf, run } from "./api.js";
import { Poll } from "./poll.js";
import { isActive, RunRecord } from "./run-record.js";

/** @typedef {import("./api.js").Run} Run */
/** @typedef {import("./api.js").RunSummary} RunSummary */

const WAITING_MS = 4_000;
const ENDING_MS = 1_000;

export class WatchedRun {
  /** @type {Run | null} */
  #run = null;
  #record = new RunRecord();
  /** Of these, and of the run's error, the page says one: why what was asked for here was not done, */
  refusal = "";
  /** why nothing newer is known, */
  trouble = "";
  /** and whether the events arrive. */
  isConnected = true;
  /** The run that is asked for, until it is watched. */
  #wanted = "";
  #stop = () => {};
  #hasEnded = false;
  #poll = new Poll(() => this.#refresh());

  /**
   * @param {{onRun: () => void, onNews: () => void, onState: () => void}} options  `onRun`: another is watched;
   *   `onNews`: something about it is new; `onState`: its state is, or one that was watched before is gone
   */
  constructor(options) {
    this.options = options;
  }

  /** Whether a run is watched, or is about to be. */
  get isTaken() {
    return this.#wanted !== "" || this.#run !== null;
  }

  get run() {
    return this.#run;
  }

  get id() {
    return this.#run?.id;
  }

  get record() {
    return this.#record;
  }

  /** @param {string} id  the last that is asked for is watched, whichever arrives first */
  async open(id) {
    this.#wanted = id;
    try {
      const opened = await run(id);
      if (this.#wanted === id) this.watch(opened);
    } catch (cause) {
      if (this.#wanted === id) this.refusal = problemOf(cause).message;
      this.options.onNews();
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
    this.refusal = this.trouble = "";
    this.isConnected = true;
    this.#follow(run.id);
    this.options.onRun();
    this.#askAgain();
  }

  /** Lets the connection go while nobody looks: a browser has only six for a site, in all its tabs. */
  rest() {
    this.#stop();
  }

  resume() {
    if (this.#run && !this.#hasEnded) this.#follow(this.#run.id);
  }

  /** Asks again where a list of runs has it in another state. @param {RunSummary[]} runs */
  catchUp(runs) {
    const listed = runs.find(({ id }) => id === this.id);
    if (listed && listed.state !== this.#run?.state) this.#refresh();
  }

  async cancel() {
    const { id } = this;
    if (!id) return;
    this.refusal = "";
    try {
      this.#accept(await cancel(id));
    } catch (cause) {
      const { message } = problemOf(cause);
      if (id === this.id) this.refusal = message;
      this.#refresh();
    }
  }

  /** @param {string} id @returns {Promise<boolean>}  whether none is watched now */
  async delete(id) {
    this.refusal = "";
    try {
      await deleteRun(id);
    } catch (cause) {
      const { message } = problemOf(cause);
      if (id === this.id) this.refusal = message;
      this.options.onNews();
      return false;
    }
    if (id !== this.id) {
      this.options.onState(); // another is watched meanwhile
      return false;
    }
    this.#stop();
    this.#run = null;
    return true;
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
        this.options.onNews();
      },
      onEpoch: (report, offset) => {
        this.#record.addEpoch(report, offset);
        this.options.onNews();
      },
      onEnd: () => {
        this.#hasEnded = true;
        if (this.#run && isActive(this.#run)) this.#refresh();
      },
      onConnection: (connected) => {
        this.isConnected = connected;
        this.options.onNews();
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
    const { id } = this;
    if (!id) return;
    try {
      this.#accept(await run(id));
    } catch (cause) {
      const { status, message } = problemOf(cause);
      if (id !== this.id) return;
      this.trouble = message;
      this.options.onNews();
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
    if (changed) this.refusal = "";
    this.#run = run;
    this.trouble = "";
    this.options.onNews();
    if (changed) this.options.onState();
  }
}
