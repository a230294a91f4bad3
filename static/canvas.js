// @ts-check
/** The sheet one draws on: strokes in, a small picture of them out. */
import { grayscalePng } from "./png.js";

/** @typedef {readonly [number, number]} Point  in units of the sheet's side, y down */
/** @typedef {readonly Point[]} Stroke */
/** @typedef {{strokes: readonly Stroke[], picture: ImageBitmap | null}} Drawing */

/** Share of the sheet's side; about what a marker on MNIST's 20-pixel box comes to. */
const LINE_WIDTH = 0.08;
/** Of a small drawing's longer side: no thicker in the snapshot than a marker would be, lest the strokes run together. */
const SMALL_LINE_WIDTH = 0.12;
const SNAPSHOT_SIDE = 112;
/** A snapshot shows this much more than the ink; what fills half the sheet is not enlarged. */
const SNAPSHOT_ROOM = 2;
const PICTURE_SIDE = 448;
const WRITING_MS = 450;

/** @type {Drawing} */
const BLANK = { strokes: [], picture: null };

export class DrawingCanvas {
  /** Every state the sheet was in, the last one is shown: undo takes back a stroke, a sample, a picture or a clear. */
  #history = [BLANK];
  #context;
  #frame = 0;
  #writing = 0;

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

  undo() {
    this.#stopWriting();
    if (this.#history.length > 1) this.#history.pop();
    this.#changed(true);
  }

  clear() {
    this.#stopWriting();
    if (!this.isBlank) this.#history.push(BLANK);
    this.#changed(true);
  }

  /** Lays a picture in place of what was drawn. @param {ImageBitmap} picture */
  lay(picture) {
    this.#stopWriting();
    this.#history.push({ strokes: [], picture });
    this.#changed(true);
  }

  /** Writes strokes in place of what was drawn, as a hand would. @param {readonly Stroke[]} strokes */
  write(strokes) {
    this.#stopWriting();
    this.#history.push(BLANK);
    const start = performance.now();
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    const advance = (/** @type {number} */ now) => {
      const share = still ? 1 : Math.min(1, (now - start) / WRITING_MS);
      this.#replace({ strokes: firstPart(strokes, share), picture: null });
      this.#writing = share < 1 ? requestAnimationFrame(advance) : 0;
      this.#changed(share === 1);
    };
    this.#writing = requestAnimationFrame(advance);
  }

  /** The drawing as a small PNG: ink black on white; a picture keeps its own colours. @returns {Promise<Blob>} */
  snapshot() {
    const { strokes, picture } = this.#drawing;
    return picture ? pictureSnapshot(picture) : strokesSnapshot(strokes);
  }

  get #drawing() {
    return this.#history[this.#history.length - 1];
  }

  /** @param {Drawing} drawing */
  #replace(drawing) {
    this.#history[this.#history.length - 1] = drawing;
  }

  /** @param {PointerEvent} event */
  #startStroke(event) {
    if (!event.isPrimary || event.button !== 0) return;
    this.#stopWriting();
    this.root.setPointerCapture(event.pointerId);
    const box = this.root.getBoundingClientRect();
    /** @type {Point[]} */
    const stroke = [pointOf(event, box)];
    // A stroke never goes over a picture: ink and background of the two would not be the same.
    this.#history.push({ strokes: [...this.#drawing.strokes, stroke], picture: null });
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
    const end = ofPointer(() => {
      stroke.abort();
      this.#changed(true);
    });
    this.root.addEventListener("pointermove", ofPointer(onMove), { signal });
    this.root.addEventListener("pointerup", end, { signal });
    this.root.addEventListener("pointercancel", end, { signal });
  }

  #stopWriting() {
    cancelAnimationFrame(this.#writing);
    this.#writing = 0;
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
    paintStrokes(this.#context, strokes, getComputedStyle(this.root).color);
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
  return createImageBitmap(picture, { resizeWidth, resizeHeight, resizeQuality: "high" });
}

/** @param {HTMLCanvasElement} canvas @returns {CanvasRenderingContext2D} */
export function contextOf(canvas) {
  const context = canvas.getContext("2d");
  if (!context) throw new Error("The browser has no two-dimensional canvas.");
  return context;
}

/** @param {readonly Stroke[]} strokes @returns {Promise<Blob>} */
function strokesSnapshot(strokes) {
  const context = sheetOf(SNAPSHOT_SIDE, SNAPSHOT_SIDE);
  context.fillStyle = "white";
  context.fillRect(0, 0, SNAPSHOT_SIDE, SNAPSHOT_SIDE);
  const { shown, lineWidth } = enlarged(strokes);
  paintStrokes(context, shown, "black", lineWidth);
  return grayscalePng(context.getImageData(0, 0, SNAPSHOT_SIDE, SNAPSHOT_SIDE));
}

/**
 * A small drawing as large as the sheet, with a pen to match; a large one stays as it is.
 * @param {readonly Stroke[]} strokes
 * @returns {{shown: Stroke[], lineWidth: number}}
 */
function enlarged(strokes) {
  const [xs, ys] = [extent(strokes, 0), extent(strokes, 1)];
  const size = Math.max(xs.length, ys.length);
  const pen = Math.max(1 / SNAPSHOT_SIDE, Math.min(LINE_WIDTH, SMALL_LINE_WIDTH * size)); // a dot has no size
  const side = Math.min(1, SNAPSHOT_ROOM * (size + pen));
  const [left, top] = side === 1 ? [0, 0] : [xs.middle - side / 2, ys.middle - side / 2];
  const shown = strokes.map((stroke) =>
    stroke.map(([x, y]) => /** @type {const} */ ([(x - left) / side, (y - top) / side])),
  );
  return { shown, lineWidth: pen / side };
}

/** @param {readonly Stroke[]} strokes @param {0 | 1} axis */
function extent(strokes, axis) {
  let [low, high] = [Infinity, -Infinity];
  for (const point of strokes.flat()) [low, high] = [Math.min(low, point[axis]), Math.max(high, point[axis])];
  return { length: high - low, middle: (low + high) / 2 };
}

/** What is transparent stays so: the service reads alpha as ink. @param {ImageBitmap} picture @returns {Promise<Blob>} */
function pictureSnapshot(picture) {
  const context = sheetOf(picture.width, picture.height);
  context.drawImage(picture, 0, 0);
  return new Promise((resolve, reject) => {
    context.canvas.toBlob(
      (blob) => (blob ? resolve(blob) : reject(new Error("The browser could not encode the picture."))),
      "image/png",
    );
  });
}

/** @param {number} width @param {number} height */
function sheetOf(width, height) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [width, height];
  return contextOf(canvas);
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

/**
 * @param {CanvasRenderingContext2D} context
 * @param {readonly Stroke[]} strokes
 * @param {string} color
 * @param {number} [lineWidth]  in units of the sheet's side
 */
function paintStrokes(context, strokes, color, lineWidth = LINE_WIDTH) {
  const side = context.canvas.width;
  context.lineWidth = lineWidth * side;
  context.lineCap = context.lineJoin = "round";
  context.strokeStyle = color;
  for (const stroke of strokes) {
    context.beginPath();
    traceSmoothly(context, stroke, side);
    context.stroke();
  }
}

/**
 * Curves through the middles between points, so that a fast stroke shows no corners.
 * @param {CanvasRenderingContext2D} context
 * @param {Stroke} stroke
 * @param {number} side  of the sheet, in pixels
 */
function traceSmoothly(context, stroke, side) {
  const [first] = stroke;
  const last = stroke[stroke.length - 1];
  context.moveTo(first[0] * side, first[1] * side);
  for (let i = 1; i < stroke.length - 1; i += 1) {
    const [x, y] = stroke[i];
    const [nextX, nextY] = stroke[i + 1];
    context.quadraticCurveTo(x * side, y * side, ((x + nextX) / 2) * side, ((y + nextY) / 2) * side);
  }
  context.lineTo(last[0] * side + 0.01, last[1] * side); // a line of no length would leave no dot
}

/** @param {CanvasRenderingContext2D} context @param {ImageBitmap} picture */
function paintPicture(context, picture) {
  const side = context.canvas.width;
  const scale = side / Math.max(picture.width, picture.height);
  const [width, height] = [picture.width * scale, picture.height * scale];
  context.imageSmoothingEnabled = scale < 4; // a 28 × 28 picture shows its pixels
  context.drawImage(picture, (side - width) / 2, (side - height) / 2, width, height);
}
