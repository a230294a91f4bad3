// @ts-check
/** Puts strokes and pictures on a canvas. */

/** @typedef {import("./canvas.js").Stroke} Stroke */

/** @param {HTMLCanvasElement} canvas @returns {CanvasRenderingContext2D} */
export function contextOf(canvas) {
  const context = canvas.getContext("2d");
  if (!context) throw new Error("The browser has no two-dimensional canvas.");
  return context;
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {readonly Stroke[]} strokes
 * @param {string} color
 * @param {number} lineWidth  in units of the sheet's side
 */
export function paintStrokes(context, strokes, color, lineWidth) {
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
export function paintPicture(context, picture) {
  const side = context.canvas.width;
  const scale = side / Math.max(picture.width, picture.height);
  const [width, height] = [picture.width * scale, picture.height * scale];
  context.imageSmoothingEnabled = scale < 4; // a 28 × 28 picture shows its pixels
  context.drawImage(picture, (side - width) / 2, (side - height) / 2, width, height);
}
