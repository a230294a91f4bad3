// @ts-check
/** The sheet one draws on: strokes in, a small picture of them out. */
import { contextOf, paintPicture, paintStrokes } from "./painting.js";
import { extent, LINE_WIDTH, onSheet, snapshot, THIN_LINE_WIDTH } from "./snapshot.js";

/** @typedef {readonly [number, number]} Point  in units of the sheet's side, y down */
/** @typedef {readonly Point[]} Stroke */
/** @typedef {{strokes: readonly Stroke[], picture: ImageBitmap | null}} Drawing */

const PICTURE_SIDE = 448;
const MAX_HISTORY = 100;
const WRITING_MS = 450;
/** Among `buttons`; a finger's, too. */
const MAIN_BUTTON = 1;
/** Of a stroke. */
const ENDINGS = /** @type {const} */ (["pointerup", "pointercancel", "lostpointercapture"]);
/** Of several digits, written side by side: how large each is, in units of the sheet's side, and how far from the last. */
const PART = 0.38;
const PART_GAP = 0.06;

/** @type {Drawing} */
const BLANK = { strokes: [], picture: null };

export class DrawingCanvas {
  /** The states the sheet was in, the last one is shown: undo takes back a stroke, a sample, a picture or a clear. */
  #history = [BLANK];
  #context;
  #frame = 0;
  #writing = 0;
  /** The sheet with all of the digit that is being written. @type {Drawing | null} */
  #written = null;
  #several = false;

  /**
   * @param {HTMLCanvasElement} root
   * @param {(finished: boolean) => void} onChange  `finished` is false while a stroke is still being drawn
   */
  constructor(root, onChange) {
    this.root = root;
    this.onChange = onChange;
    this.#context = contextOf(root);
    root.addEventListener("pointerdown", (event) => this.#startStroke(event));
    // Else the browser takes a quick stroke for a fling, and swallows the tap on a button that follows at once.
    root.addEventListener("touchstart", (event) => event.preventDefault(), { passive: false });
    new ResizeObserver(() => this.#fitToScreen()).observe(root);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#redraw());
  }

  get isBlank() {
    const { strokes, picture } = this.#drawing;
    return !picture && strokes.length === 0;
  }

  get several() {
    return this.#several;
  }

  /** Whether several digits share the sheet, and the pen is thin. @param {boolean} several */
  set several(several) {
    this.#several = several;
    this.#changed(true);
  }

  undo() {
    this.#finishWriting();
    if (this.#history.length > 1) this.#history.pop();
    this.#changed(true);
  }

  clear() {
    this.#finishWriting();
    if (!this.isBlank) this.#add(BLANK);
    this.#changed(true);
  }

  /** Lays a picture in place of what was drawn. @param {ImageBitmap} picture */
  lay(picture) {
    this.#finishWriting();
    this.#add({ strokes: [], picture });
    this.#changed(true);
  }

  /**
   * Writes a digit as a hand would: in place of what was drawn or, of several, beside it.
   * @param {readonly Stroke[]} digit @returns {boolean}  whether there was room
   */
  write(digit) {
    this.#finishWriting();
    const before = this.#several ? this.#drawing.strokes : [];
    const strokes = this.#several ? beside(before, digit) : digit;
    if (!strokes) {
      this.#changed(true); // the one before is whole now
      return false;
    }
    this.#add({ strokes: before, picture: null });
    this.#written = { strokes: [...before, ...strokes], picture: null };
    const start = performance.now();
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    const advance = (/** @type {number} */ now) => {
      const share = still ? 1 : Math.min(1, (now - start) / WRITING_MS);
      this.#replace({ strokes: [...before, ...firstPart(strokes, share)], picture: null });
      if (share < 1) this.#writing = requestAnimationFrame(advance);
      else this.#written = null;
      this.#changed(share === 1);
    };
    this.#writing = requestAnimationFrame(advance);
    return true;
  }

  /** The drawing as a small PNG. @returns {Promise<Blob>} */
  snapshot() {
    return snapshot(this.#drawing, this.#several);
  }

  /** @param {import("./snapshot.js").Box} box  in a snapshot's pixels @returns {import("./snapshot.js").Box}  in units of the sheet's side */
  onSheet(box) {
    return onSheet(box, this.#drawing);
  }

  get #drawing() {
    return this.#history[this.#history.length - 1];
  }

  /** @param {Drawing} drawing */
  #add(drawing) {
    this.#history.push(drawing);
    if (this.#history.length > MAX_HISTORY) this.#history.shift();
  }

  /** @param {Drawing} drawing */
  #replace(drawing) {
    this.#history[this.#history.length - 1] = drawing;
  }

  /** @param {PointerEvent} event */
  #startStroke(event) {
    if (!event.isPrimary || event.button !== 0) return;
    this.#finishWriting();
    this.root.setPointerCapture(event.pointerId);
    const box = this.root.getBoundingClientRect();
    /** @type {Point[]} */
    const stroke = [pointOf(event, box)];
    // A stroke never goes over a picture: ink and background of the two would not be the same.
    this.#add({ strokes: [...this.#drawing.strokes, stroke], picture: null });
    this.#followPointer(event.pointerId, (move) => {
      stroke.push(...trail(move).map((part) => pointOf(part, box)));
      this.#changed(false);
    });
    this.#changed(false);
  }

  /** @param {number} pointer @param {(event: PointerEvent) => void} onMove */
  #followPointer(pointer, onMove) {
    const stroke = new AbortController();
    const { signal } = stroke;
    const ofPointer = (/** @type {(event: PointerEvent) => void} */ act) => (/** @type {PointerEvent} */ event) => {
      if (event.pointerId === pointer) act(event);
    };
    const end = () => {
      stroke.abort();
      this.#changed(true);
    };
    // Where a menu opens over the sheet, no pointerup may come.
    const move = ofPointer((event) => (event.buttons & MAIN_BUTTON ? onMove(event) : end()));
    this.root.addEventListener("pointermove", move, { signal });
    for (const ending of ENDINGS) this.root.addEventListener(ending, ofPointer(end), { signal });
  }

  /** Whoever goes on at once does so beside the whole digit. */
  #finishWriting() {
    cancelAnimationFrame(this.#writing);
    if (this.#written) this.#replace(this.#written);
    this.#written = null;
  }

  /** @param {boolean} finished */
  #changed(finished) {
    this.#redraw();
    this.onChange(finished);
  }

  #fitToScreen() {
    const side = Math.round(this.root.clientWidth * devicePixelRatio);
    if (side === this.root.width && side === this.root.height) return;
    this.root.width = this.root.height = side;
    this.#paint(); // at once: a resized canvas is empty
  }

  #redraw() {
    cancelAnimationFrame(this.#frame);
    this.#frame = requestAnimationFrame(() => this.#paint());
  }

  #paint() {
    const { strokes, picture } = this.#drawing;
    const side = this.root.width;
    this.#context.clearRect(0, 0, side, side);
    if (picture) paintPicture(this.#context, picture);
    const lineWidth = this.#several ? THIN_LINE_WIDTH : LINE_WIDTH;
    paintStrokes(this.#context, strokes, getComputedStyle(this.root).color, lineWidth);
  }
}

/**
 * A picture file, no larger than recognising it needs.
 * @param {Blob} file
 * @returns {Promise<ImageBitmap>}  rejects when the browser cannot read it
 */
export async function readPicture(file) {
  const picture = await createImageBitmap(file);
  const scale = PICTURE_SIDE / Math.max(picture.width, picture.height);
  if (scale >= 1) return picture;
  const resizeWidth = Math.max(1, Math.round(picture.width * scale));
  const resizeHeight = Math.max(1, Math.round(picture.height * scale));
  const small = await createImageBitmap(picture, { resizeWidth, resizeHeight, resizeQuality: "high" });
  picture.close(); // a photograph has 50 MB
  return small;
}

/** @param {MouseEvent} event @param {DOMRect} box @returns {Point} */
const pointOf = (event, box) => [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];

/** Every position since the last event: a fast pen moves more often than the screen is drawn. @param {PointerEvent} event */
function trail(event) {
  const parts = event.getCoalescedEvents?.() ?? [];
  return parts.length ? parts : [event];
}

/** @param {readonly Stroke[]} strokes @param {number} share  0 to 1 @returns {Stroke[]} */
function firstPart(strokes, share) {
  let left = Math.ceil(strokes.flat().length * share);
  const shown = strokes.map((stroke) => {
    const part = stroke.slice(0, left);
    left = Math.max(0, left - stroke.length);
    return part;
  });
  return shown.filter((stroke) => stroke.length > 0);
}

/** A digit at the end of a row; null: it has no room there. @param {readonly Stroke[]} row @param {readonly Stroke[]} digit */
function beside(row, digit) {
  const { length, low } = extent(digit, 0);
  const end = row.length ? extent(row, 0).high : 0;
  if (end + 2 * PART_GAP + PART * length > 1) return null;
  const start = end + PART_GAP - PART * low;
  const place = (/** @type {Point} */ [x, y]) => /** @type {const} */ ([start + PART * x, 0.5 + PART * (y - 0.5)]);
  return digit.map((stroke) => stroke.map(place));
}
