// @ts-check
/** What is known of a run's course. Events come again after a reconnection, and a training that lost its worker starts again. */

/** @typedef {import("./api.js").Progress} Progress */
/** @typedef {import("./api.js").EpochReport} EpochReport */
/** @typedef {{x: number, y: number}} Point  x in epochs */
/** @typedef {{line: Point[], epochs: Point[], validation: Point[]}} Curve */

export class RunRecord {
  /** @type {Map<number, Progress>} */
  #steps = new Map();
  /** @type {Map<number, EpochReport>} */
  #epochs = new Map();
  /** Of the last event that was new. */
  #offset = -1;
  #step = 0;
  #furthest = 0;
  /** @type {Progress | null} */
  latest = null;

  /** The last speed that was measured. @type {number | null} */
  speed = null;

  /** @param {Progress | null} progress @param {EpochReport[]} history  as the service sums them up, before any event */
  constructor(progress = null, history = []) {
    this.latest = progress;
    this.speed = progress?.images_per_second ?? null;
    history.forEach((report) => this.#epochs.set(report.epoch, report));
  }

  /** @param {Progress} progress @param {number} offset @returns {boolean}  whether the training has started again */
  addProgress(progress, offset) {
    if (!this.#isNew(offset)) return false;
    const again = progress.step < this.#step;
    if (again) this.#forgetBeyond(progress);
    this.latest = progress;
    this.#step = progress.step;
    this.#furthest = Math.max(this.#furthest, progress.step);
    this.speed = progress.images_per_second ?? this.speed;
    if (progress.loss !== null) this.#steps.set(progress.step, progress);
    return again;
  }

  /** Whether the training has started again, and has steps to make up for. */
  get isBehind() {
    return this.#step < this.#furthest;
  }

  /** @param {EpochReport} report @param {number} offset */
  addEpoch(report, offset) {
    if (this.#isNew(offset)) this.#epochs.set(report.epoch, report);
  }

  /** @param {number} offset */
  #isNew(offset) {
    if (offset <= this.#offset) return false;
    this.#offset = offset;
    return true;
  }

  /** @param {Progress} position */
  #forgetBeyond({ step, steps, epochs }) {
    for (const known of [...this.#steps.keys()]) if (known > step) this.#steps.delete(known);
    for (const known of [...this.#epochs.keys()]) if ((known / epochs) * steps > step) this.#epochs.delete(known);
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

/** @param {{state: string}} run */
export const isActive = ({ state }) => state === "queued" || state === "running";

/** A loss that has become infinite arrives as null. @param {{x: number, y: number | null}[]} points @returns {Point[]} */
function drawable(points) {
  return points.flatMap(({ x, y }) => (y === null || !Number.isFinite(y) ? [] : [{ x, y }]));
}
