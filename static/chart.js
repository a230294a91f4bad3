// @ts-check
/** A small line chart: a curve by step, marks by epoch, and the value under the pointer. */
import { find, svg } from "./dom.js";

/** @typedef {import("./run-record.js").Point} Point */
/** @typedef {import("./run-record.js").Curve} Curve */
/** @typedef {{place: (value: number) => number, domain: (values: number[]) => [number, number],
 *   ticks: (low: number, high: number) => number[]}} Scale */
/** @typedef {{x: (value: number) => number, y: (value: number) => number, left: number, right: number, top: number, bottom: number}} Frame */

const MARGIN = { left: 40, right: 10, top: 8, bottom: 22 };
const MAX_LINE_POINTS = 400;
const MAX_MARKS = 100;

/** For losses: equal ratios look equal, so that late progress stays visible. @type {Scale} */
export const logarithmic = {
  place: (value) => Math.log10(Math.max(value, 1e-9)),
  domain: (values) => [Math.max(1e-9, Math.min(...values)) * 0.8, Math.max(...values) * 1.15],
  ticks: (low, high) => {
    const ticks = decades(low, high, [1, 2, 5]);
    if (ticks.length < 2) return evenly(low, high, (high - low) / 4);
    return ticks.length > 6 ? decades(low, high, [1]) : ticks;
  },
};

/** For shares, up to 1. @type {Scale} */
export const upToOne = {
  place: (value) => value,
  domain: (values) => [Math.min(0.9, Math.floor(Math.min(...values) * 10) / 10), 1],
  ticks: (low, high) => evenly(low, high, (high - low) / 4),
};

export class Chart {
  /** @type {Curve} */
  #curve = { line: [], epochs: [], validation: [] };
  /** Another run's. @type {Point[]} */
  #beside = [];
  #epochs = 1;
  /** @type {Point | null} */
  #pointed = null;
  #pending = 0;

  /**
   * @param {HTMLElement} root  a figure
   * @param {{scale: Scale, format: (value: number) => string, tick: (value: number) => string}} style
   */
  constructor(root, { scale, format, tick }) {
    this.root = root;
    this.scale = scale;
    this.format = format;
    this.tick = tick;
    this.title = find(root, ".chart-title", HTMLElement).textContent;
    this.readout = find(root, ".chart-readout", HTMLElement);
    this.surface = svg("svg", { role: "img", class: "chart-surface" });
    root.append(this.surface);
    new ResizeObserver(() => this.#redraw()).observe(this.surface);
    this.surface.addEventListener("pointermove", (event) => this.#point(event.offsetX));
    this.surface.addEventListener("pointerleave", () => this.#point(null));
  }

  /** @param {Curve} curve @param {Point[]} beside  another run's epochs @param {number} epochs  of the longer run */
  show(curve, beside, epochs) {
    this.#curve = { ...curve, line: thinned(curve.line) };
    this.#beside = beside;
    this.#epochs = epochs;
    this.#redraw();
  }

  /** Many events of a replayed run cost one drawing. */
  #redraw() {
    cancelAnimationFrame(this.#pending);
    this.#pending = requestAnimationFrame(() => this.#draw());
  }

  #draw() {
    const { line, epochs, validation } = this.#curve;
    const points = [...line, ...epochs, ...validation];
    const values = [...points, ...this.#beside].map(({ y }) => y);
    const frame = this.#frame(values);
    this.surface.setAttribute("viewBox", `0 0 ${this.surface.clientWidth} ${this.surface.clientHeight}`);
    this.surface.replaceChildren(
      ...(values.length ? this.#axisOfValues(frame, values) : []),
      ...this.#axisOfEpochs(frame),
      svg("path", { class: "chart-beside", d: path(this.#beside, frame) }),
      ...marked(this.#beside).map(({ x, y }) => svg("circle", { class: "chart-beside-epoch", cx: frame.x(x), cy: frame.y(y), r: 2.5 })),
      svg("path", { class: "chart-line", d: path(line, frame) }),
      ...marked(epochs).map(({ x, y }) => svg("circle", { class: "chart-epoch", cx: frame.x(x), cy: frame.y(y), r: 3 })),
      ...marked(validation).map(({ x, y }) => svg("path", { class: "chart-validation", d: diamond(frame.x(x), frame.y(y)) })),
      ...this.#pointer(frame),
    );
    this.root.dataset.points = String(points.length);
    this.#describe();
  }

  /** @param {number[]} values @returns {Frame} */
  #frame(values) {
    const [left, right] = [MARGIN.left, this.surface.clientWidth - MARGIN.right];
    const [top, bottom] = [MARGIN.top, this.surface.clientHeight - MARGIN.bottom];
    const { place } = this.scale;
    const [low, high] = (values.length ? this.scale.domain(values) : [1, 2]).map(place);
    return {
      left,
      right,
      top,
      bottom,
      x: (value) => left + (value / this.#epochs) * (right - left),
      y: (value) => bottom - ((place(value) - low) / (high - low)) * (bottom - top),
    };
  }

  /** @param {Frame} frame @param {number[]} values */
  #axisOfValues(frame, values) {
    const [low, high] = this.scale.domain(values);
    return this.scale
      .ticks(low, high)
      .flatMap((value) => [
        svg("line", { class: "chart-grid", x1: frame.left, x2: frame.right, y1: frame.y(value), y2: frame.y(value) }),
        svg(
          "text",
          { class: "chart-tick", x: frame.left - 6, y: frame.y(value), "text-anchor": "end", dy: "0.32em" },
          this.tick(value),
        ),
      ]);
  }

  /** @param {Frame} frame */
  #axisOfEpochs(frame) {
    const ticks = evenly(0, this.#epochs, Math.max(1, this.#epochs / 5)).filter(Number.isInteger);
    const labels = ticks.map((epoch) =>
      svg(
        "text",
        { class: "chart-tick", x: frame.x(epoch), y: frame.bottom + 15, "text-anchor": "middle" },
        String(epoch),
      ),
    );
    return [
      svg("line", { class: "chart-axis", x1: frame.left, x2: frame.right, y1: frame.bottom, y2: frame.bottom }),
      ...labels,
    ];
  }

  /** @param {Frame} frame */
  #pointer(frame) {
    if (!this.#pointed) return [];
    const [x, y] = [frame.x(this.#pointed.x), frame.y(this.#pointed.y)];
    return [
      svg("line", { class: "chart-hair", x1: x, x2: x, y1: frame.top, y2: frame.bottom }),
      svg("circle", { class: "chart-pointed", cx: x, cy: y, r: 4 }),
    ];
  }

  /** @param {number | null} offset  in pixels from the chart's left edge */
  #point(offset) {
    const { left, right } = this.#frame([]);
    const epoch = offset === null ? null : ((offset - left) / (right - left)) * this.#epochs;
    this.#pointed = epoch === null ? null : nearest([...this.#curve.line, ...this.#curve.epochs], epoch);
    this.#redraw();
  }

  #describe() {
    const { line, epochs } = this.#curve;
    const points = line.length ? line : epochs;
    const last = points[points.length - 1];
    if (this.#pointed) this.readout.textContent = this.#valuesAt(this.#pointed);
    else this.readout.textContent = last ? this.format(last.y) : "";
    this.surface.setAttribute("aria-label", summary(this.title, points, this.format));
  }

  /** The nearest validation has the mark that it has in the chart. @param {Point} point */
  #valuesAt({ x, y }) {
    const validation = nearest(this.#curve.validation, x);
    return `epoch ${x.toFixed(1)}: ${this.format(y)}${validation ? ` · ◆ ${this.format(validation.y)}` : ""}`;
  }
}

/** @param {string} title @param {Point[]} points @param {(value: number) => string} format */
function summary(title, points, format) {
  if (points.length === 0) return `${title}: nothing to show yet`;
  return `${title} from ${format(points[0].y)} to ${format(points[points.length - 1].y)}; the table below has the numbers`;
}

/** @param {Point[]} points @param {Frame} frame */
function path(points, frame) {
  return points.map(({ x, y }, i) => `${i ? "L" : "M"}${frame.x(x).toFixed(1)} ${frame.y(y).toFixed(1)}`).join("");
}

/** @param {number} x @param {number} y */
const diamond = (x, y) => `M${x} ${y - 5}L${x + 5} ${y}L${x} ${y + 5}L${x - 5} ${y}Z`;

/** @param {Point[]} points @param {number} x @returns {Point | null} */
function nearest(points, x) {
  /** @type {Point | null} */
  let best = null;
  for (const point of points) if (!best || Math.abs(point.x - x) < Math.abs(best.x - x)) best = point;
  return best;
}

/** Means of neighbours: a long run has more points than the chart has pixels. @param {Point[]} points @returns {Point[]} */
function thinned(points) {
  const size = Math.ceil(points.length / MAX_LINE_POINTS);
  if (size <= 1) return points;
  return Array.from({ length: Math.ceil(points.length / size) }, (_, i) =>
    mean(points.slice(i * size, (i + 1) * size)),
  );
}

/** Those that have room for a mark, the last among them. @param {Point[]} points @returns {Point[]} */
function marked(points) {
  const size = Math.ceil(points.length / MAX_MARKS);
  return points.filter((_, i) => (points.length - 1 - i) % size === 0);
}

/** @param {Point[]} points @returns {Point} */
function mean(points) {
  const sum = points.reduce((total, { x, y }) => ({ x: total.x + x, y: total.y + y }), { x: 0, y: 0 });
  return { x: sum.x / points.length, y: sum.y / points.length };
}

/** @param {number} low @param {number} high @param {number[]} leading */
function decades(low, high, leading) {
  const ticks = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power += 1)
    ticks.push(...leading.map((digit) => Number(`${digit}e${power}`))); // a product would not be round
  return ticks.filter((tick) => tick >= low && tick <= high);
}

/** Round numbers, at least `step` apart. @param {number} low @param {number} high @param {number} step */
function evenly(low, high, step) {
  const power = 10 ** Math.floor(Math.log10(step));
  const round = /** @type {number} */ ([1, 2, 2.5, 5, 10].find((factor) => factor * power >= step * 0.999)) * power;
  const first = Math.ceil(low / round - 1e-9);
  const last = Math.floor(high / round + 1e-9);
  return Array.from({ length: last - first + 1 }, (_, i) => Number(((first + i) * round).toPrecision(6)));
}
