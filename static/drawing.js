// @ts-check
/** The canvas with its tools: buttons, keys, picture files, drag and drop. */
import { DrawingCanvas, readPicture } from "./canvas.js";
import { find, say } from "./dom.js";
import { Latest } from "./latest.js";
import { writtenSample } from "./samples.js";

export class DrawingBoard {
  #message;
  #latest = new Latest();

  /**
   * @param {HTMLElement} root
   * @param {(finished: boolean) => void} onChange
   */
  constructor(root, onChange) {
    const surface = find(root, "canvas", HTMLCanvasElement);
    this.#message = find(root, ".message", HTMLElement);
    this.canvas = new DrawingCanvas(surface, (finished) => {
      root.classList.toggle("is-drawn", !this.canvas.isBlank);
      say(this.#message, "");
      onChange(finished);
    });
    find(root, "#undo", HTMLButtonElement).addEventListener("click", () => this.canvas.undo());
    find(root, "#clear", HTMLButtonElement).addEventListener("click", () => this.canvas.clear());
    surface.addEventListener("keydown", (event) => this.#pressKey(event));
    this.#takePictures(find(root, "#picture", HTMLInputElement));
    this.#offerSeveral(find(root, "#several", HTMLInputElement));
    this.#takeDrops(root);
  }

  focus() {
    this.canvas.root.focus();
  }

  /** @param {number} digit */
  writeSample(digit) {
    if (this.canvas.write(writtenSample(digit))) return;
    say(this.#message, "There is no room for another digit. Undo one, or clear the sheet.");
  }

  /** Lays the first picture among the files on the sheet. @param {Iterable<File>} files @returns {Promise<void>} */
  async takeFiles(files) {
    const [first, ...others] = files;
    if (!first) return;
    const isLatest = this.#latest.ask();
    const picture = [first, ...others].find((file) => file.type.startsWith("image/"));
    if (!picture) return this.#refuse(`“${first.name}” is not a picture.`);
    const read = await readPicture(picture).catch(() => null);
    if (!isLatest()) return; // another has been given meanwhile
    if (read) this.canvas.lay(read);
    else this.#refuse(`“${picture.name}” is not a picture that this browser can read.`);
  }

  /** An empty sheet, lest what was there pass for the file; undo brings it back. @param {string} reason */
  #refuse(reason) {
    this.canvas.clear();
    say(this.#message, reason);
  }

  /** @param {KeyboardEvent} event */
  #pressKey(event) {
    const withControl = event.ctrlKey || event.metaKey;
    if (withControl && !event.shiftKey && event.key.toLowerCase() === "z") this.canvas.undo();
    else if (withControl || event.altKey) return;
    else if (["Delete", "Backspace"].includes(event.key)) this.canvas.clear();
    else if (/^\d$/.test(event.key)) this.writeSample(Number(event.key));
    else return;
    event.preventDefault();
  }

  /** @param {HTMLInputElement} input */
  #takePictures(input) {
    input.addEventListener("change", async () => {
      await this.takeFiles(input.files ?? []);
      input.value = ""; // the same file again is a change again
    });
  }

  /** @param {HTMLInputElement} toggle */
  #offerSeveral(toggle) {
    toggle.addEventListener("change", () => (this.canvas.several = toggle.checked));
  }

  /** @param {HTMLElement} root */
  #takeDrops(root) {
    const mark = (/** @type {boolean} */ over) => root.classList.toggle("is-dropped-on", over);
    root.addEventListener("dragover", (event) => {
      event.preventDefault();
      mark(true);
    });
    root.addEventListener("dragleave", () => mark(false));
    root.addEventListener("drop", (event) => {
      event.preventDefault();
      mark(false);
      this.takeFiles(event.dataTransfer?.files ?? []);
    });
  }
}
