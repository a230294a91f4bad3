// @ts-check
/** A form below a model's row that gives the model another name, a description, and aliases. */
import { changeModel, dropAlias, pointAlias, problemOf } from "./api.js";
import { element, find, say } from "./dom.js";

/** @typedef {import("./api.js").Model} Model */

/** Those that have controls of their own. */
const RESERVED = ["default", "candidate"];
const ALIASES = "[ ,]*([a-z][a-z0-9\\-]{0,31}([ ,]+|$))*"; // as the service takes them

export class ModelEditor {
  /** What is edited. @type {Model | null} */
  model = null;

  /** @param {(model: Model, said: string, tone: "good" | "bad") => void} onClose  `said`: what has been done, or why not; empty: nothing */
  constructor(onClose) {
    this.onClose = onClose;
    this.form = form();
    this.row = element("tr", { role: "row", class: "editing" }, element("td", { role: "cell", colspan: 6 }, this.form));
    this.name = find(this.form, "[name=name]", HTMLInputElement);
    this.description = find(this.form, "[name=description]", HTMLTextAreaElement);
    this.aliases = find(this.form, "[name=aliases]", HTMLInputElement);
    this.fields = [this.name, this.description, this.aliases];
    this.message = find(this.form, ".message", HTMLElement);
    this.form.addEventListener("submit", (event) => this.#submit(event));
    this.form.addEventListener("keydown", (event) => event.key === "Escape" && !event.isComposing && this.#cancel());
    find(this.form, "[type=button]", HTMLButtonElement).addEventListener("click", () => this.#cancel());
  }

  /** Whether it is this model that is edited. @param {Model} model */
  isOpenFor({ id }) {
    return this.model?.id === id;
  }

  /** @param {Model} model @param {HTMLTableRowElement} below  its row */
  open(model, below) {
    this.model = model;
    this.name.value = model.name;
    this.description.value = model.description ?? "";
    this.aliases.value = ownAliases(model).join(" ");
    this.#lock(false);
    say(this.message, "");
    below.after(this.row);
    this.name.focus();
  }

  /** @param {SubmitEvent} event */
  async #submit(event) {
    event.preventDefault();
    const model = this.model;
    if (!model || this.name.readOnly) return;
    const name = this.name.value.trim();
    const aliases = this.aliases.value.split(/[ ,]+/).filter(Boolean);
    this.#lock(true);
    let failed = "is not saved";
    try {
      await changeModel(model.id, { name, description: this.description.value.trim() });
      failed = "is saved, but not all of its aliases";
      await setAliases(model, aliases);
      this.#close(model, `“${name}” is saved.`);
    } catch (cause) {
      const { message } = problemOf(cause);
      if (!this.isOpenFor(model)) return this.onClose(model, `“${name}” ${failed}: ${message}`, "bad");
      this.#lock(false);
      say(this.message, message);
    }
  }

  /** While it is being saved: what is typed then would be lost, and what is sent again refused. @param {boolean} isLocked */
  #lock(isLocked) {
    for (const field of this.fields) field.readOnly = isLocked;
  }

  #cancel() {
    if (this.model) this.#close(this.model);
  }

  /** Unless another is edited meanwhile. @param {Model} model @param {string} [done] */
  #close(model, done = "") {
    if (this.isOpenFor(model)) {
      this.model = null;
      this.row.remove();
    }
    this.onClose(model, done, "good");
  }
}

/** @param {Model} model @param {string[]} wanted */
async function setAliases(model, wanted) {
  const had = ownAliases(model);
  for (const alias of wanted) if (!had.includes(alias)) await pointAlias(alias, model.id);
  for (const alias of had) if (!wanted.includes(alias)) await dropAlias(alias);
}

/** @param {Model} model */
const ownAliases = ({ aliases }) => aliases.filter((alias) => !RESERVED.includes(alias));

function form() {
  return element(
    "form",
    { class: "editor" },
    field("Name", name()),
    field("Description", element("textarea", { name: "description", rows: 2, maxlength: 2000 })),
    field("Aliases", aliases(), "names of your own that programs ask for it by, such as room-12; one that another model has moves here"),
    element("p", { class: "message", role: "alert" }),
    element(
      "div",
      { class: "tools" },
      element("button", { type: "submit", class: "primary" }, "Save"),
      element("button", { type: "button" }, "Cancel"),
    ),
  );
}

function name() {
  const title = "more than spaces";
  return element("input", { name: "name", type: "text", required: true, pattern: ".*\\S.*", title, maxlength: 100, autocomplete: "off" });
}

function aliases() {
  const title = "small letters, digits and hyphens, a letter first; spaces between several";
  return element("input", { name: "aliases", type: "text", pattern: ALIASES, title, autocomplete: "off", autocapitalize: "none", spellcheck: "false" });
}

/** @param {string} label @param {HTMLElement} input @param {string} [hint] */
const field = (label, input, hint) =>
  element("label", { class: "field" }, element("span", {}, label), input, ...(hint ? [element("p", { class: "hint" }, hint)] : []));
