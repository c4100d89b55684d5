/** Drawing on canvases: the picture with what the transformer samples, and what the classifier saw. */

const OUTLINE = "#ffaa00";
const TOP = "#ffffff";
const SHADE = "#000000aa";
const FIRST_LINE = 400; // pixels of a picture's shorter side for which a line is 2 pixels wide

/**
 * Draw outlines over the picture on a canvas; the upper side of each is white. What the network does not see is dark.
 *
 * @param {HTMLCanvasElement} canvas holds the picture at its own size
 * @param {import("./prediction.js").Point[][]} outlines pixels
 * @param {import("./preprocessing.js").Region} seen
 */
export function drawOutlines(canvas, outlines, seen) {
  const context = contextOf(canvas);
  const { width, height } = canvas;
  context.fillStyle = SHADE;
  context.beginPath();
  context.rect(0, 0, width, height);
  context.rect(seen.left, seen.top, seen.width, seen.height);
  context.fill("evenodd");
  const line = Math.max(1, (2 * Math.min(width, height)) / FIRST_LINE);
  context.lineJoin = "round";
  for (const points of outlines) {
    if (!points.every(({ x, y }) => Number.isFinite(x) && Number.isFinite(y))) continue;
    const side = points.length / 4;
    const border = [...points, points[0]];
    for (const [stroke, end] of /** @type {[string, number][]} */ ([
      ["#000000", border.length],
      [OUTLINE, border.length],
      [TOP, side + 1],
    ])) {
      context.lineWidth = stroke === "#000000" ? 2.2 * line : line;
      context.strokeStyle = stroke;
      context.beginPath();
      border.slice(0, end).forEach(({ x, y }, index) => {
        if (index) context.lineTo(x + 0.5, y + 0.5);
        else context.moveTo(x + 0.5, y + 0.5);
      });
      context.stroke();
    }
  }
}

/**
 * Draw what the classifier saw.
 *
 * @param {HTMLCanvasElement} canvas takes its size
 * @param {ArrayLike<number>} pixels (h, w, C), grey or RGB
 * @param {number} height
 * @param {number} width
 */
export function drawPixels(canvas, pixels, height, width) {
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const channels = pixels.length / (height * width);
  const image = new ImageData(width, height);
  for (let pixel = 0; pixel < height * width; pixel++) {
    for (let channel = 0; channel < 3; channel++) {
      image.data[4 * pixel + channel] = pixels[pixel * channels + (channels === 3 ? channel : 0)];
    }
    image.data[4 * pixel + 3] = 255;
  }
  contextOf(canvas).putImageData(image, 0, 0);
}

/**
 * Put a video's frame or a picture on a canvas, on white where it is transparent.
 *
 * @param {HTMLCanvasElement} canvas takes its size
 * @param {CanvasImageSource} image
 * @param {number} height
 * @param {number} width
 */
export function drawImage(canvas, image, height, width) {
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const context = contextOf(canvas);
  context.fillStyle = "#ffffff";
  context.fillRect(0, 0, width, height);
  context.imageSmoothingQuality = "high"; // of thumbnails, in which outlines would be dotted
  context.drawImage(image, 0, 0, width, height);
}

/**
 * @param {HTMLCanvasElement} canvas
 */
export function contextOf(canvas) {
  const context = canvas.getContext("2d", { willReadFrequently: true });
  if (!context) throw new Error("this browser has no 2D canvas");
  return context;
}
