// @ts-check
/** A form below a model's row that gives the model another name and a description. */
import { changeModel, problemOf } from "./api.js";
import { element, find, say } from "./dom.js";

/** @typedef {import("./api.js").Model} Model */

export class ModelEditor {
  /** @type {Model | null} */
  #model = null;

  /** @param {(model: Model, done: string) => void} onClose  `done`: what has been done; empty: nothing */
  constructor(onClose) {
    this.onClose = onClose;
    this.form = form();
    this.row = element("tr", { role: "row", class: "editing" }, element("td", { role: "cell", colspan: 6 }, this.form));
    this.name = find(this.form, "[name=name]", HTMLInputElement);
    this.description = find(this.form, "[name=description]", HTMLTextAreaElement);
    this.message = find(this.form, ".message", HTMLElement);
    this.form.addEventListener("submit", (event) => this.#submit(event));
    this.form.addEventListener("keydown", (event) => event.key === "Escape" && this.#close(""));
    find(this.form, "[type=button]", HTMLButtonElement).addEventListener("click", () => this.#close(""));
  }

  /** Whether it is this model that is edited. @param {Model} model */
  isOpenFor({ id }) {
    return this.#model?.id === id;
  }

  /** @param {Model} model @param {HTMLTableRowElement} below  its row */
  open(model, below) {
    this.#model = model;
    this.name.value = model.name;
    this.description.value = model.description ?? "";
    say(this.message, "");
    below.after(this.row);
    this.name.focus();
  }

  /** @param {SubmitEvent} event */
  async #submit(event) {
    event.preventDefault();
    if (!this.#model) return;
    try {
      await changeModel(this.#model.id, { name: this.name.value.trim(), description: this.description.value.trim() });
      this.#close(`“${this.name.value.trim()}” is saved.`);
    } catch (cause) {
      say(this.message, problemOf(cause).message);
    }
  }

  /** @param {string} done */
  #close(done) {
    const model = this.#model;
    this.#model = null;
    this.row.remove();
    if (model) this.onClose(model, done);
  }
}

function form() {
  return element(
    "form",
    { class: "editor" },
    field("Name", element("input", { name: "name", type: "text", required: true, maxlength: 100, autocomplete: "off" })),
    field("Description", element("textarea", { name: "description", rows: 2, maxlength: 2000 })),
    element("p", { class: "message", role: "alert" }),
    element(
      "div",
      { class: "tools" },
      element("button", { type: "submit", class: "primary" }, "Save"),
      element("button", { type: "button" }, "Cancel"),
    ),
  );
}

/** @param {string} label @param {HTMLElement} input */
const field = (label, input) => element("label", { class: "field" }, element("span", {}, label), input);
