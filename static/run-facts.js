// @ts-check
/** A run in figures: how far it is, how fast, for how long, and where. */
import { find } from "./dom.js";
import * as format from "./format.js";
import { isActive } from "./run-record.js";

/** @typedef {import("./api.js").Run} Run */
/** @typedef {import("./run-record.js").RunRecord} RunRecord */

export class RunFacts {
  /** @param {HTMLElement} root */
  constructor(root) {
    const part = (/** @type {string} */ selector) => find(root, selector, HTMLElement);
    this.epoch = part(".fact-epoch");
    this.speed = part(".fact-speed");
    this.timeLabel = part(".fact-time-label");
    this.time = part(".fact-time");
    this.device = part(".fact-device");
    this.place = part(".fact-place");
  }

  /** @param {Run} run @param {RunRecord} record */
  show(run, { latest, speed }) {
    const { spec, worker } = run;
    const reached = latest?.epoch ?? 0; // fewer than planned where the run was stopped early
    this.epoch.textContent = `${format.count(reached)} of ${format.count(spec.epochs)}`;
    this.speed.textContent = speed ? `${format.count(speed)} images/s` : "–";
    this.timeLabel.textContent = isActive(run) ? "Time left" : "Time taken";
    this.time.textContent = isActive(run) ? timeLeft(latest?.seconds_left) : timeTaken(run);
    this.device.textContent = worker?.device ?? "–";
    this.place.textContent = worker ? `${worker.host}, slot ${worker.slot}` : "";
  }
}

/** @param {number | null | undefined} seconds */
const timeLeft = (seconds) => (seconds === null || seconds === undefined ? "–" : format.duration(seconds));

/** @param {Run} run */
function timeTaken({ started_at: start, ended_at: end }) {
  return start && end ? format.duration(format.secondsBetween(start, end)) : "–";
}
