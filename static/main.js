// @ts-check
/** Finds the page's parts and connects them. */
import { problemOf, useKeys } from "./api.js";
import { Answer } from "./answer.js";
import { Boxes } from "./boxes.js";
import { CandidateTrial } from "./candidate.js";
import { Comparison } from "./comparison.js";
import { Deletion } from "./deletion.js";
import { find } from "./dom.js";
import { DrawingBoard } from "./drawing.js";
import { KeyDialog } from "./key.js";
import { Models } from "./models.js";
import { Readiness } from "./readiness.js";
import { Recogniser } from "./recogniser.js";
import { Report } from "./report.js";
import { RunList } from "./run-list.js";
import { isActive } from "./run-record.js";
import { RunView } from "./run-view.js";
import { offerSamples } from "./samples.js";
import { TrainerForm } from "./trainer-form.js";
import { Upload } from "./upload.js";
import { WatchedRun } from "./watched-run.js";
import { Why } from "./why.js";

/** @typedef {import("./api.js").Model} Model */
/** @typedef {import("./api.js").Problem} Problem */
/** @typedef {import("./api.js").Reading} Reading */
/** @typedef {import("./recogniser.js").Question} Question */
/** @typedef {import("./api.js").RunSummary} RunSummary */

/** A run that is asked for with such an answer has been deleted, or is of another version. */
const NEVER_AGAIN = [404, 409];

const answer = new Answer(find(document, "#answer", HTMLElement), showChoice);
const boxes = new Boxes(find(document, "#boxes", SVGElement));
const why = new Why(find(document, "#why", HTMLDetailsElement));
/** What the page shows the answer to. @type {{reading: Reading, question: Question} | null} */
let shown = null;
const report = new Report(find(document, "#report", HTMLDialogElement));
const watchPanel = find(document, "#watch", HTMLElement);
const key = new KeyDialog(find(document, "#key", HTMLDialogElement), find(document, "#forget-key", HTMLButtonElement));
useKeys(key.known, (refused) => key.ask(refused));

const deletion = new Deletion(find(document, "#deletion", HTMLDialogElement));
const models = new Models(find(document, "#trained", HTMLElement), {
  answering: find(document, "#answering", HTMLSelectElement),
  deletion,
  kept: () => [...comparison.chosen, candidate.tried, watched.run?.model ?? ""],
  onReport: (model) => report.open(model),
  onRun: (id) => {
    chooseRun(id);
    watchPanel.scrollIntoView({ block: "nearest" });
  },
  onDraw: drawWith,
  onAnswering: () => readiness.isReady && recogniser.ask(true),
  onModels: (all) => {
    comparison.offer(all);
    candidate.offer(all);
    tools.hidden = all.length === 0;
    runs.show();
    view.show();
  },
});
const tools = find(document, "#model-tools", HTMLElement);
const comparison = new Comparison(find(tools, "#comparing", HTMLDetailsElement));
const candidate = new CandidateTrial(find(tools, "#candidate", HTMLDetailsElement), () => models.refresh());
new Upload(find(tools, "#upload", HTMLElement), () => models.refresh());

const board = new DrawingBoard(find(document, "#drawing", HTMLElement), (finished) => {
  if (board.canvas.isBlank) forget();
  else if (readiness.isReady) recogniser.ask(finished);
  else forget("waiting for a model");
});

const recogniser = new Recogniser(board.canvas, {
  model: () => models.answering,
  onAnswer: showAnswer,
  onProblem: explainNoAnswer,
});

const readiness = new Readiness(find(document, "#ready-note", HTMLElement), (wasAway) => {
  if (wasAway) form.load();
  if (wasAway) runs.refresh();
  recogniser.ask(true);
});

const watched = new WatchedRun({
  onRun: () => view.open(),
  onNews: () => view.show(),
  onState: () => runs.refresh(),
});

const view = new RunView(watchPanel, watched, {
  deletion,
  modelOf,
  onDraw: drawWith,
  onReport: (model) => report.open(model),
  onAgain: (run) => form.take(run),
  onDelete: () => {
    leaveAddress();
    runs.title.focus({ preventScroll: true }); // the button has gone
    runs.refresh();
  },
});

const runs = new RunList(find(document, "#runs", HTMLElement), {
  watched: () => watched.id,
  modelOf,
  onChoice: chooseRun,
  onList: (recent) => {
    watchTheMostInteresting(recent);
    watched.catchUp(recent);
    view.offer(recent);
    models.follow(watched.run ? [...recent, watched.run] : recent);
  },
});

const form = new TrainerForm(find(document, "#train-form", HTMLFormElement), (run) => {
  keepInAddress(run.id);
  watched.watch(run);
  runs.showNewest();
  watchPanel.scrollIntoView({ block: "nearest" });
});

/** What a run has published, where the page knows of it. @param {RunSummary} run @returns {Model | undefined} */
function modelOf({ model }) {
  return models.find(model ?? "");
}

/** @param {Model} model */
function drawWith(model) {
  models.answerBy(model);
  board.focus();
}

/** @param {Reading} reading @param {boolean} finished @param {Question} question */
function showAnswer(reading, finished, question) {
  const [{ model }] = reading.digits;
  shown = { reading, question: { ...question, model } }; // of the default and its candidate, the one that has answered
  answer.show(reading, finished);
  frameDigits();
  if (finished) why.explain(shown.question, answer.chosen);
  if (finished) models.noteAnswer(model);
}

/** Explains another of several digits. @param {number} chosen */
function showChoice(chosen) {
  frameDigits();
  if (shown) why.explain(shown.question, chosen);
}

function frameDigits() {
  const digits = shown?.reading.digits ?? [];
  const framed = digits.flatMap(({ digit, box }) => (box ? [{ digit, box: board.canvas.onSheet(box) }] : []));
  boxes.show(framed, answer.chosen);
}

/** @param {string} [reason]  why there is no answer to what is drawn */
function forget(reason) {
  shown = null;
  recogniser.forget();
  boxes.show([]);
  why.clear();
  answer.clear(reason);
}

/** @param {Problem} problem */
async function explainNoAnswer({ status, message, retryAfter }) {
  const isAway = status === 0 || status === 503;
  if (!retryAfter) forget(isAway ? "waiting for a model" : message);
  else if (!shown) answer.clear("very busy; asking again");
  if (status === 404) models.refresh(); // the chosen model has been deleted
  if (status !== 503) return;
  await readiness.check();
  if (readiness.isReady) return;
  recogniser.rest(); // not busy, but without a model: it has been started anew
  forget("waiting for a model");
}

const runInAddress = () => new URLSearchParams(location.search).get("run");

/** A run that somebody has chosen or started is watched again after a reload. @param {string} id */
function keepInAddress(id) {
  history.replaceState(null, "", `?run=${encodeURIComponent(id)}${location.hash}`);
}

/** @param {string} id */
function chooseRun(id) {
  keepInAddress(id);
  watchRun(id);
}

function leaveAddress() {
  history.replaceState(null, "", location.pathname + location.hash);
}

/** @param {string} id */
async function watchRun(id) {
  try {
    await watched.open(id);
    runs.show();
    if (watched.run) models.follow([watched.run]);
  } catch (cause) {
    if (!NEVER_AGAIN.includes(problemOf(cause).status)) return;
    if (runInAddress() === id) leaveAddress();
    runs.refresh();
  }
}

/** Before anybody has chosen: the address' run, a running one, or else the newest. @param {RunSummary[]} recent */
function watchTheMostInteresting(recent) {
  const [newest] = recent;
  if (watched.isTaken || !newest) return;
  const choice = recent.find(({ state }) => state === "running") ?? recent.find(isActive) ?? newest;
  watchRun(runInAddress() ?? choice.id);
}

offerSamples(find(document, "#samples", HTMLElement), (digit) => board.writeSample(digit));
const isField = (/** @type {EventTarget | null} */ target) => target instanceof Element && target.matches("input, textarea");
document.addEventListener("paste", ({ target, clipboardData }) => {
  if (!isField(target)) board.takeFiles(clipboardData?.files ?? []);
});
document.addEventListener("dragover", (event) => {
  if (event.defaultPrevented || isField(event.target)) return;
  event.preventDefault(); // else a picture that is dropped beside the sheet takes the page's place
  if (event.dataTransfer) event.dataTransfer.dropEffect = "none";
});
document.addEventListener("visibilitychange", () => (document.hidden ? watched.rest() : watched.resume()));

form.load();
readiness.check();
const kept = runInAddress();
if (kept) watchRun(kept);
runs.refresh();
