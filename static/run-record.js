// @ts-check
/** What is known of a run's course. Events may come twice, after a reconnection or a resumed run: the last one counts. */

/** @typedef {import("./api.js").Progress} Progress */
/** @typedef {import("./api.js").EpochReport} EpochReport */
/** @typedef {{x: number, y: number}} Point  x in epochs */
/** @typedef {{line: Point[], epochs: Point[], validation: Point[]}} Curve */

export class RunRecord {
  /** @type {Map<number, Progress>} */
  #steps = new Map();
  /** @type {Map<number, EpochReport>} */
  #epochs = new Map();
  /** @type {Progress | null} */
  latest = null;

  /** @param {Progress} progress */
  addProgress(progress) {
    this.latest = progress;
    if (progress.loss !== null) this.#steps.set(progress.step, progress);
  }

  /** @param {EpochReport} report */
  addEpoch(report) {
    this.#epochs.set(report.epoch, report);
  }

  /** @returns {EpochReport[]} */
  get epochs() {
    return [...this.#epochs.values()].sort((one, other) => one.epoch - other.epoch);
  }

  /** @param {"loss" | "accuracy"} measure @returns {Curve} */
  curve(measure) {
    const steps = [...this.#steps.values()].sort((one, other) => one.step - other.step);
    const validation = /** @type {const} */ (`validation_${measure}`);
    return {
      line: drawable(
        steps.map((progress) => ({ x: (progress.step / progress.steps) * progress.epochs, y: progress[measure] })),
      ),
      // The mean of an epoch belongs to its middle, what is measured after it to its end.
      epochs: drawable(this.epochs.map((report) => ({ x: report.epoch - 0.5, y: report[measure] }))),
      validation: drawable(this.epochs.map((report) => ({ x: report.epoch, y: report[validation] }))),
    };
  }
}

/** A loss that has become infinite arrives as null. @param {{x: number, y: number | null}[]} points @returns {Point[]} */
function drawable(points) {
  return points.flatMap(({ x, y }) => (y === null || !Number.isFinite(y) ? [] : [{ x, y }]));
}
