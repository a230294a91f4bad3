// @ts-check
/** A model that is tried beside the default: on a share of the predictions, or in the shadow, where nobody sees it. */
import { candidate, problemOf, tryCandidate } from "./api.js";
import { find, say } from "./dom.js";
import * as format from "./format.js";
import { Latest } from "./latest.js";
import { offer } from "./model-choice.js";
import { Poll } from "./poll.js";

/** @typedef {import("./api.js").Candidate} Tried */
/** @typedef {import("./api.js").Model} Model */

const LOOK_MS = 5_000;

export class CandidateTrial {
  /** The id of the model that is tried, while somebody looks on. */
  tried = "";
  #poll = new Poll(() => this.#look());
  /** @type {Model[]} */
  #models = [];
  #latest = new Latest();

  /** @param {HTMLDetailsElement} root @param {() => void} onChange  another model is tried now, or none */
  constructor(root, onChange) {
    this.root = root;
    this.onChange = onChange;
    this.form = find(root, "form", HTMLFormElement);
    this.choice = find(root, "select", HTMLSelectElement);
    this.share = find(root, "[name=share]", HTMLInputElement);
    this.byShare = find(root, "[value=share]", HTMLInputElement);
    this.end = find(root, ".candidate-end", HTMLButtonElement);
    this.message = find(root, ".message", HTMLElement);
    this.state = find(root, ".candidate-state", HTMLElement);
    this.share.addEventListener("input", () => (this.byShare.checked = true));
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#choose({ model: this.choice.value, ...this.#way() });
    });
    this.end.addEventListener("click", () => this.#choose({ model: null }));
    root.addEventListener("toggle", () => {
      this.tried = "";
      this.#look();
    });
  }

  /** @param {Model[]} models */
  offer(models) {
    this.#models = models;
    offer(this.choice, models.filter(({ aliases }) => !aliases.includes("default")));
    this.#look();
  }

  #way() {
    return this.byShare.checked ? { share: this.share.valueAsNumber / 100 } : { shadow: true };
  }

  /** As long as one looks on. */
  async #look() {
    this.#poll.stop();
    if (!this.root.open) return;
    const isLatest = this.#latest.ask();
    try {
      const tried = await candidate();
      if (isLatest()) this.#show(tried);
    } catch (cause) {
      const { message } = problemOf(cause);
      if (isLatest()) say(this.state, message);
    }
    this.#poll.askIn(LOOK_MS);
  }

  /** @param {import("./api.js").CandidateChoice} choice */
  async #choose(choice) {
    say(this.message, "");
    try {
      const tried = await tryCandidate(choice);
      this.#latest.ask(); // what a look from before sees is no longer so
      this.#show(tried);
    } catch (cause) {
      say(this.message, problemOf(cause).message);
    }
  }

  /** @param {Tried} tried */
  #show(tried) {
    const before = this.tried;
    this.tried = tried.model ?? "";
    if (this.tried !== before) this.onChange();
    if (tried.model === null && document.activeElement === this.end) this.choice.focus({ preventScroll: true });
    this.end.hidden = tried.model === null;
    say(this.state, tried.model === null ? "No model is tried at the moment." : this.#describe(tried), "plain");
  }

  /** @param {Tried} tried */
  #describe({ model, share, shadow, answered, compared, agreed }) {
    const name = this.#models.find(({ id }) => id === model)?.name ?? model;
    const way = shadow
      ? `“${name}” sees every drawing in the default’s shadow`
      : `“${name}” answers ${format.percent(share, 0)} of the drawings, ${format.count(answered)} so far`;
    if (compared === 0) return `${way}.`;
    const agreement = `${format.percent(agreed / compared, 1)} of ${format.count(compared)}`;
    return `${way}. It names the same digit as the default for ${agreement} ${compared === 1 ? "drawing" : "drawings"}.`;
  }
}
