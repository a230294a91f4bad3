// @ts-check
/** A model's examination on the 10,000 test images. */
import { evaluation, problemOf } from "./api.js";
import { element, find, say, svg } from "./dom.js";
import * as format from "./format.js";

/** @typedef {import("./api.js").Evaluation} Evaluation */
/** @typedef {import("./api.js").CalibrationBin} CalibrationBin */
/** @typedef {{id: string, name: string}} Named */

export class Report {
  #opened = "";

  /** @param {HTMLDialogElement} root */
  constructor(root) {
    this.root = root;
    this.title = find(root, "#report-title", HTMLElement);
    this.message = find(root, ".report-message", HTMLElement);
    this.body = find(root, ".report-body", HTMLElement);
  }

  /** @param {Named} model */
  async open({ id, name }) {
    this.#opened = id;
    this.title.textContent = name;
    this.body.replaceChildren();
    say(this.message, "Reading the report …", "plain");
    this.root.showModal();
    try {
      const report = await evaluation(id);
      if (this.#opened === id) this.#show(report);
    } catch (cause) {
      const { message } = problemOf(cause);
      if (this.#opened === id) say(this.message, message);
    }
  }

  /** @param {Evaluation} report */
  #show(report) {
    say(this.message, "");
    this.body.replaceChildren(
      scores(report),
      perClass(report),
      confusion(report),
      calibration(report),
      hardest(report),
    );
    this.root.scrollTop = 0;
  }
}

/** @param {Evaluation} report */
function scores({ accuracy, loss, confusion_matrix: matrix }) {
  const images = matrix.flat().reduce((sum, count) => sum + count, 0);
  const wrong = images - matrix.reduce((sum, row, digit) => sum + row[digit], 0);
  return element(
    "dl",
    { class: "facts" },
    fact("Test accuracy", format.percent(accuracy)),
    fact("Wrong", `${format.count(wrong)} of ${format.count(images)}`),
    fact("Test loss", format.loss(loss)),
  );
}

/** @param {string} name @param {string} value */
const fact = (name, value) => element("div", {}, element("dt", {}, name), element("dd", {}, value));

/** @param {string} title @param {string} about @param {...Node} content */
function part(title, about, ...content) {
  return element(
    "section",
    { class: "report-part" },
    element("h3", {}, title),
    element("p", { class: "hint" }, about),
    ...content,
  );
}

/** @param {string[]} columns @param {HTMLTableRowElement[]} rows @param {string} kind */
function table(columns, rows, kind) {
  const head = element("tr", {}, ...columns.map((column) => element("th", { scope: "col" }, column)));
  return element("table", { class: kind }, element("thead", {}, head), element("tbody", {}, ...rows));
}

/** @param {string} head @param {string[]} values */
const row = (head, values) =>
  element("tr", {}, element("th", { scope: "row" }, head), ...values.map((value) => element("td", {}, value)));

/** @param {Evaluation} report */
function perClass({ per_class: classes }) {
  const rows = classes.map(({ digit, precision, recall, f1, support }) =>
    row(String(digit), [format.percent(precision), format.percent(recall), format.percent(f1), format.count(support)]),
  );
  return part(
    "Digit by digit",
    "Precision: of all it calls a 7, how many are. Recall: of all 7s, how many it finds. F1 is the two in one.",
    table(["Digit", "Precision", "Recall", "F1", "Images"], rows, "figures"),
  );
}

/** @param {Evaluation} report */
function confusion({ confusion_matrix: matrix }) {
  const digits = matrix.map((_, digit) => String(digit));
  const most = Math.max(1, ...matrix.flatMap((counts, digit) => counts.filter((_, named) => named !== digit)));
  const rows = matrix.map((counts, digit) =>
    element(
      "tr",
      {},
      element("th", { scope: "row" }, String(digit)),
      ...counts.map((count, named) => confusionCell(count, digit, named, most)),
    ),
  );
  return part(
    "What it mistakes for what",
    "Rows are the true digits, columns what the network called them. The stronger a cell’s colour off the diagonal, the commoner the mistake.",
    table(["true \\ named", ...digits], rows, "confusion"),
  );
}

/** @param {number} count @param {number} digit @param {number} named @param {number} most */
function confusionCell(count, digit, named, most) {
  const isRight = digit === named;
  const heat = isRight ? 0 : 50 * Math.sqrt(count / most); // percent; the hottest colour leaves its number legible
  const cell = element("td", { class: isRight ? "is-right" : "" }, count ? String(count) : "·");
  cell.style.setProperty("--heat", `${Math.round(heat)}%`);
  cell.title = isRight ? `${count} of digit ${digit} named rightly` : `${count} of digit ${digit} named ${named}`;
  return cell;
}

/** @param {Evaluation} report */
function calibration({ calibration: { expected_calibration_error: error, bins } }) {
  const filled = bins.filter(({ count }) => count > 0);
  const rows = filled.map(({ confidence, accuracy, count }) =>
    row(format.percent(confidence ?? 0, 1), [format.percent(accuracy ?? 0, 1), format.count(count)]),
  );
  const numbers = table(["How sure", "How often right", "Images"], rows, "figures");
  return part(
    "Does it know when it does not know?",
    "A well calibrated network that is 80 % sure is right 80 % of the time: its points lie on the diagonal. " +
      `On average this one is off by ${format.percent(error)} (expected calibration error).`,
    element("div", { class: "calibration" }, reliability(filled), numbers),
  );
}

/** @param {CalibrationBin[]} bins */
function reliability(bins) {
  const most = Math.max(1, ...bins.map(({ count }) => count));
  const place = (/** @type {number} */ share) => 4 + share * 92;
  const points = bins.map(({ confidence, accuracy, count }) =>
    svg("circle", {
      class: "reliability-point",
      cx: place(confidence ?? 0),
      cy: 100 - place(accuracy ?? 0),
      r: 1.2 + 2.4 * Math.sqrt(count / most),
    }),
  );
  const label = (/** @type {number} */ x, /** @type {number} */ y, /** @type {string} */ text) =>
    svg("text", { x, y, class: "reliability-label" }, text);
  return svg(
    "svg",
    {
      class: "reliability",
      viewBox: "0 0 100 100",
      role: "img",
      "aria-label": "How often it is right, by how sure it is; the numbers follow",
    },
    svg("rect", { class: "reliability-frame", x: 4, y: 4, width: 92, height: 92 }),
    svg("line", { class: "reliability-ideal", x1: 4, y1: 96, x2: 96, y2: 4 }),
    ...points,
    label(7, 10, "how often right ↑"),
    label(69, 93, "how sure →"),
  );
}

/** @param {Evaluation} report */
function hardest({ hardest: images }) {
  const figures = images.map(({ image, label, digit, confidence }) => {
    const verdict = digit === label ? `only just a ${digit}` : `it says ${digit}`;
    const about = `A ${label}; ${verdict}, ${format.sureness(confidence)} sure`;
    return element(
      "figure",
      {},
      element("img", { src: image, alt: about, width: 28, height: 28 }),
      element(
        "figcaption",
        {},
        element("strong", {}, `${label}`),
        digit === label ? " named rightly" : ` named ${digit}`,
        element("small", {}, `${format.sureness(confidence)} sure`),
      ),
    );
  });
  return part(
    "The hardest images",
    "Those on which its loss was largest, with the digit that the data set calls them.",
    element("div", { class: "hardest" }, ...figures),
  );
}
