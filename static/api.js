// @ts-check
/** The service's REST interface: the only module that fetches. Addresses are the page's: a proxy may serve it below a path. */

/** @typedef {"queued" | "running" | "succeeded" | "failed" | "cancelled"} RunState */
/** @typedef {{type: string} & Record<string, unknown>} Layer */
/** @typedef {number | ({type: string} & Record<string, unknown>)} Rate */
/** @typedef {{type: string, learning_rate: Rate} & Record<string, unknown>} Optimizer */
/** @typedef {{name: string, network: Layer[], loss: string | {type: string}, optimizer: Optimizer, batch_size: number,
 *   epochs: number, validation_split: number, seed: number}} TrainSpec */
/** @typedef {{type: string, output_shape: number[], parameters: number}} LayerSummary */
/** @typedef {{summary: LayerSummary[], parameters: number, memory_bytes: number, seconds: number}} DryRun */
/** @typedef {{name: string, description: string, spec: TrainSpec}} Preset */
/** @typedef {{phase: "preparing" | "training" | "evaluating", epoch: number, epochs: number, step: number, steps: number,
 *   loss: number | null, accuracy: number | null, images_per_second: number | null, seconds_left: number | null,
 *   note: string | null}} Progress */
/** @typedef {{epoch: number, loss: number, accuracy: number, validation_loss: number | null,
 *   validation_accuracy: number | null, seconds: number}} EpochReport */
/** @typedef {{host: string, slot: number, device: string}} Worker */
/** @typedef {{id: string, name: string, user: string | null, state: RunState, queue_position: number | null, starts_in_seconds: number | null,
 *   created_at: string, started_at: string | null, ended_at: string | null, worker: Worker | null, spec: TrainSpec,
 *   progress: Progress | null, model: string | null, error: string | null}} RunSummary */
/** @typedef {RunSummary & {history: EpochReport[]}} Run */
/** @typedef {{id: string, name: string, description: string, run: string | null, created_at: string, parameters: number, spec: TrainSpec, aliases: string[], pinned: boolean,
 *   scores: {loss: number, accuracy: number, validation_loss: number | null, validation_accuracy: number | null}}} Model */
/** @typedef {{layer: number, type: string, size: number, shape: number[], low: number, high: number, values: string}} LayerActivations */
/** @typedef {{digit: number, confidence: number, probabilities: number[], is_digit: boolean, model: string,
 *   box?: [number, number, number, number], seen?: number[][], saliency?: number[][], activations?: LayerActivations[]}} Prediction */
/** @typedef {"seen" | "saliency" | "activations"} Included */
/** What was read: one digit, and then there is no number, or several from left to right.
 * @typedef {{number: string | null, digits: Prediction[]}} Reading */
/** @typedef {{models: Model[], differences: {field: string, values: unknown[]}[],
 *   per_class: {digit: number, precision: number[], recall: number[], f1: number[]}[]}} Comparison  values in the models' order */
/** @typedef {{model: string | null, share: number, shadow: boolean, answered: number, compared: number, agreed: number}} Candidate */
/** @typedef {{model: string | null, share?: number, shadow?: boolean}} CandidateChoice */
/** @typedef {{confidence: number | null, accuracy: number | null, count: number}} CalibrationBin */
/** @typedef {{model: string, loss: number, accuracy: number,
 *   per_class: {digit: number, precision: number, recall: number, f1: number, support: number}[],
 *   confusion_matrix: number[][],
 *   calibration: {expected_calibration_error: number, bins: CalibrationBin[]},
 *   hardest: {index: number, label: number, digit: number, confidence: number, image: string}[]}} Evaluation */
/** @typedef {{loc: (string | number)[], msg: string}} FieldError */
/** @typedef {{name: string, network: Layer[], loss: string | object, optimizer: object, batch_size: number | null,
 *   epochs: number | null, validation_split: number | null, seed: number | null}} TrainRequest */
/** @typedef {{onProgress: (progress: Progress, offset: number) => void, onEpoch: (report: EpochReport, offset: number) => void,
 *   onEnd: () => void, onConnection: (connected: boolean) => void}} RunListener  `offset`: the event's place in the run's */
/** @typedef {RequestInit & {patience?: number}} Options  patience: how long an answer may take, in milliseconds */

const PATIENCE_MS = 30_000;
const UPLOAD_PATIENCE_MS = 600_000; // the service scores a model for up to 120 s, after those of up to three others
const RECONNECT_MS = 3_000;
const LOST_MS = 5_000;

/** Tells the page, by "unreachable", that a request found no service. */
export const connection = new EventTarget();

/** Gives the key that the service asks for; `refused`: the one that was sent. Empty: there is none. @type {(refused: string) => Promise<string>} */
let keyFor = async () => "";
let key = "";
let isKeyMissing = false;

/** @param {string} known  a key from an earlier visit @param {typeof keyFor} ask */
export function useKeys(known, ask) {
  key = known;
  keyFor = ask;
}

/** An answer that is not the wanted one; status 0 means that none came. */
export class Problem extends Error {
  /** @param {number} status @param {string} detail @param {FieldError[]} [errors] @param {number} [retryAfter]  in seconds; 0: nobody knows */
  constructor(status, detail, errors = [], retryAfter = 0) {
    super(detail);
    this.status = status;
    this.errors = errors;
    this.retryAfter = retryAfter;
  }
}

/** @param {unknown} cause  what a catch clause caught @returns {Problem}  a defect of the page itself is thrown on */
export function problemOf(cause) {
  if (cause instanceof Problem) return cause;
  throw cause;
}

/** @returns {Promise<void>}  rejects with 503 while no model is warm */
export const readiness = () => request("readyz");

/** @returns {Promise<Preset[]>} */
export const presets = async () => (await request("presets")).presets;

/** @param {TrainRequest} spec @returns {Promise<Run>} */
export const train = (spec) => request("train", json("POST", spec));

/** What a training would be; null where that takes a key, which is not asked for here. @param {TrainRequest} spec @returns {Promise<DryRun | null>} */
export async function dryRun(spec) {
  if (isKeyMissing && !key) return null;
  const response = await send("train?dry_run=true", json("POST", spec));
  isKeyMissing = response.status === 401;
  if (isKeyMissing) return null;
  if (!response.ok) throw await problemIn(response);
  return arrived(response.json());
}

/** A page of them, newest first. @param {number} limit @param {number} [offset] @returns {Promise<{runs: RunSummary[], next_offset: number | null}>} */
export const runs = (limit, offset = 0) => request(`train?limit=${limit}&offset=${offset}`);

/** @param {string} id @returns {Promise<Run>} */
export const run = (id) => request(`train/${encodeURIComponent(id)}`);

/** @param {string} id @returns {Promise<Run>} */
export const cancel = (id) => request(`train/${encodeURIComponent(id)}/cancel`, { method: "POST" });

/** @param {string} id @returns {Promise<void>} */
export const deleteRun = (id) => remove(`train/${encodeURIComponent(id)}`);

/** @returns {Promise<boolean>} */
export const hasModels = async () => (await request("models?limit=1")).models.length > 0;

/**
 * A page of models, newest first, and before it those that are named and not on it.
 * @param {{limit: number, offset: number}} page @param {string[]} names  ids and aliases
 * @returns {Promise<{found: Model[], next: number | null}>}
 */
export async function models({ limit, offset }, names) {
  const { models: page, next_offset: next } = await request(`models?limit=${limit}&offset=${offset}`);
  const lacks = (/** @type {string} */ name) =>
    !page.some((/** @type {Model} */ { id, aliases }) => id === name || aliases.includes(name));
  const isWhole = offset === 0 && next === null;
  const others = isWhole ? [] : await Promise.all(names.filter(lacks).map(modelsNamed));
  const found = new Map([...others.flat(), ...page].map((model) => [model.id, model]));
  return { found: [...found.values()], next };
}

/** @param {string} name  an id or an alias @returns {Promise<Model[]>}  none where it has been deleted */
async function modelsNamed(name) {
  try {
    return [await request(`models/${encodeURIComponent(name)}`)];
  } catch (cause) {
    if (problemOf(cause).status === 404) return [];
    throw cause;
  }
}

/** @param {string} id @param {{name: string, description: string}} change @returns {Promise<Model>} */
export const changeModel = (id, change) => request(`models/${encodeURIComponent(id)}`, json("PATCH", change));

/** @param {Blob} file  safetensors @param {string} name @returns {Promise<Model>} */
export const uploadModel = (file, name) =>
  request(`models?${new URLSearchParams(name && { name })}`, {
    method: "POST",
    headers: { "Content-Type": "application/octet-stream" },
    body: file,
    patience: UPLOAD_PATIENCE_MS,
  });

/** @param {string[]} ids @returns {Promise<Comparison>} */
export const compareModels = (ids) =>
  request(`models/compare?${new URLSearchParams(ids.map((id) => ["models", id]))}`);

/** The model that is tried beside the default. @returns {Promise<Candidate>} */
export const candidate = () => request("models/candidate");

/** @param {CandidateChoice} choice @returns {Promise<Candidate>} */
export const tryCandidate = (choice) => request("models/candidate", json("PUT", choice));

/** @param {string} id @returns {Promise<void>} */
export const deleteModel = (id) => remove(`models/${encodeURIComponent(id)}`);

/** @param {string | null} id  null leaves the choice to the service, which takes the best @returns {Promise<Model>} */
export const makeDefault = (id) => request("models/default", json("PUT", { model: id }));

/** Makes a name stand for a model, whatever it stood for. @param {string} alias @param {string} id @returns {Promise<object>} */
export const pointAlias = (alias, id) => request(`aliases/${encodeURIComponent(alias)}`, json("PUT", { model: id }));

/** @param {string} alias @returns {Promise<void>} */
export const dropAlias = (alias) => remove(`aliases/${encodeURIComponent(alias)}`);

/** @param {string} id */
export const downloadAddress = (id) => `models/${encodeURIComponent(id)}/download?format=safetensors`;

/** @param {string} id @returns {Promise<Evaluation>} */
export const evaluation = (id) => request(`evaluate/${encodeURIComponent(id)}`);

/**
 * @param {Blob} drawing  a PNG
 * @param {{model: string, several: boolean}} asked  `model`: an id; empty means the default
 * @param {readonly Included[]} include
 * @returns {Promise<Reading>}
 */
export async function predict(drawing, { model, several }, include) {
  const query = new URLSearchParams(include.map((field) => ["include", field]));
  if (model) query.set("model", model);
  if (several) query.set("segment", "true");
  const headers = { "Content-Type": "image/png" };
  const answer = await request(`predict?${query}`, { method: "POST", headers, body: drawing });
  return several ? answer : { number: null, digits: [answer] };
}

/**
 * Follows a run's events from the first on, however late it is, until its end.
 * @param {string} id
 * @param {RunListener} listener
 * @returns {() => void}  stops following
 */
export function follow(id, listener) {
  /** @type {EventSource} */
  let source;
  let retry = 0;
  let lost = 0;
  const stop = () => {
    clearTimeout(retry);
    clearTimeout(lost);
    source.close();
  };
  const connected = () => {
    clearTimeout(lost);
    lost = 0;
    listener.onConnection(true);
  };
  const open = () => {
    source = new EventSource(`train/${encodeURIComponent(id)}/events`);
    source.addEventListener("open", connected);
    source.addEventListener("progress", (event) => listener.onProgress(JSON.parse(event.data), offset(event)));
    source.addEventListener("epoch", (event) => listener.onEpoch(JSON.parse(event.data), offset(event)));
    source.addEventListener("end", () => {
      stop();
      listener.onEnd();
    });
    source.addEventListener("error", () => {
      // A service that is restarted ends its streams, and the browser resumes them: nothing to speak of.
      lost ||= setTimeout(() => listener.onConnection(false), LOST_MS);
      // The browser reconnects after a lost connection, but gives up after an answer such as a proxy's 502.
      if (source.readyState === EventSource.CLOSED) retry = setTimeout(open, RECONNECT_MS);
    });
  };
  open();
  return stop;
}

/** @param {MessageEvent} event */
const offset = (event) => Number(event.lastEventId);

/** @param {string} path @param {Options} [options] @returns {Promise<any>} */
async function request(path, options) {
  let sent = key; // while it is under way, another request may get a new one
  let response = await send(path, options);
  while (response.status === 401 && (sent = key = await keyFor(sent))) response = await send(path, options);
  if (!response.ok) throw await problemIn(response);
  return response.status === 204 ? undefined : arrived(response.json());
}

/** What another has removed already is removed. @param {string} path */
async function remove(path) {
  try {
    await request(path, { method: "DELETE" });
  } catch (cause) {
    if (problemOf(cause).status !== 404) throw cause;
  }
}

/** @param {string} path @param {Options} [options] */
function send(path, { patience = PATIENCE_MS, ...options } = {}) {
  const headers = { ...options.headers, ...(key && { Authorization: `Bearer ${key}` }) };
  return arrived(fetch(path, { ...options, headers, signal: AbortSignal.timeout(patience) }));
}

/** A connection may break, or be too slow, before an answer and in the middle of it. @template T @param {Promise<T>} answer @returns {Promise<T>} */
async function arrived(answer) {
  try {
    return await answer;
  } catch {
    connection.dispatchEvent(new Event("unreachable"));
    throw new Problem(0, "The service does not answer right now.");
  }
}

/** @param {Response} response @returns {Promise<Problem>} */
async function problemIn(response) {
  if (response.status === 401) return new Problem(401, "Nothing was done: this service asks for a key.");
  if (response.status === 404) return new Problem(404, "It is not there any more: it has been deleted.");
  const body = await response.json().catch(() => ({})); // a proxy in between answers in HTML
  const detail = body.detail ?? body.title ?? `The service answered ${response.status}.`;
  return new Problem(response.status, detail, body.errors ?? [], Number(response.headers.get("Retry-After")) || 0);
}

/** @param {string} method @param {object} body @returns {RequestInit} */
function json(method, body) {
  return { method, headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
}
