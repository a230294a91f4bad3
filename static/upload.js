// @ts-check
/** Publishes a model from a file, such as another service's download. */
import { problemOf, uploadModel } from "./api.js";
import { find, say } from "./dom.js";
import * as format from "./format.js";

/** @typedef {import("./api.js").Model} Model */

export class Upload {
  /** @param {HTMLElement} root @param {(model: Model) => void} onModel */
  constructor(root, onModel) {
    this.onModel = onModel;
    this.form = find(root, "form", HTMLFormElement);
    this.file = find(root, "[type=file]", HTMLInputElement);
    this.name = find(root, "[name=name]", HTMLInputElement);
    this.button = find(root, "[type=submit]", HTMLButtonElement);
    this.message = find(root, ".message", HTMLElement);
    this.form.addEventListener("submit", (event) => this.#submit(event));
  }

  /** @param {SubmitEvent} event */
  async #submit(event) {
    event.preventDefault();
    const [file] = this.file.files ?? [];
    this.button.disabled = true;
    say(this.message, "Uploading, then scoring it on the test images …", "plain");
    try {
      const model = await uploadModel(file, this.name.value.trim());
      this.form.reset();
      say(this.message, `“${model.name}” is here: ${format.percent(model.scores.accuracy)} on the test images.`, "good");
      this.onModel(model);
    } catch (cause) {
      say(this.message, problemOf(cause).message);
    } finally {
      this.button.disabled = false;
    }
    if (document.activeElement === document.body) this.button.focus({ preventScroll: true }); // what is disabled loses it
  }
}
