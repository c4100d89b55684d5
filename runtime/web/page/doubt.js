/**
 * When not to trust a prediction: theta is unlike any that training saw, or what is sampled lies outside the picture.
 *
 * @typedef {import("./manifest.js").Manifest} Manifest
 * @typedef {import("./prediction.js").Point} Point
 * @typedef {{ left: number, top: number, right: number, bottom: number }} Rectangle
 */

import { place } from "stn-edge-web/preprocessing.js";

const LARGEST_OUTSIDE = 0.5; // share of what the last transformer samples; more is mostly padding
const ROUNDING = 1e-3; // how far a probability may leave the range from 0 to 1

/**
 * Return why a prediction should not be trusted, in words; null when nothing speaks against it.
 *
 * @param {ArrayLike<number>} probabilities
 * @param {number[]} theta
 * @param {Point[][]} outlines on the picture, pixels
 * @param {number} height of the picture
 * @param {number} width
 * @param {Manifest} manifest
 */
export function doubt(probabilities, theta, outlines, height, width, manifest) {
  if (!Array.from(probabilities).every((value) => value >= -ROUNDING && value <= 1 + ROUNDING)) {
    return "the probabilities have left the range from 0 to 1";
  }
  const points = outlines.flat();
  if (![...theta, ...points.map(({ x }) => x), ...points.map(({ y }) => y)].every(Number.isFinite)) {
    return "the transformer has left the range of numbers";
  }
  const last = outlines.at(-1);
  if (last) {
    const { seen, pixel } = view(height, width, manifest);
    if (Math.abs(area(last)) < pixel) return "the transformer has collapsed to less than a pixel";
    const outside = outsideShare(last, seen);
    if (outside > LARGEST_OUTSIDE) {
      const where = manifest.preprocess.fit === "crop" ? "what the network sees of the picture" : "the picture";
      return `${(100 * outside).toFixed(0)} % of the samples are outside ${where}`;
    }
  }
  if (manifest.theta) {
    const { mean, whitening, limit } = manifest.theta;
    const steps = whitening.map((row) =>
      row.reduce((sum, value, index) => sum + value * (theta[index] - mean[index]), 0),
    );
    const distance = Math.hypot(...steps);
    if (distance > limit) {
      return `theta is unlike training (distance ${distance.toFixed(1)}, limit ${limit.toFixed(1)})`;
    }
  }
  return null;
}

/**
 * Return how much of a polygon's area lies outside a rectangle, 0 to 1.
 *
 * @param {Point[]} polygon
 * @param {Rectangle} rectangle
 */
export function outsideShare(polygon, rectangle) {
  const whole = area(polygon);
  if (!whole) return 0;
  // Sutherland and Hodgman 1974: cut along one side of the rectangle after the other
  /** @type {[("x" | "y"), number, number][]} */
  const sides = [
    ["x", rectangle.left, 1],
    ["x", rectangle.right, -1],
    ["y", rectangle.top, 1],
    ["y", rectangle.bottom, -1],
  ];
  let inside = polygon;
  for (const [axis, edge, sign] of sides) {
    const other = axis === "x" ? "y" : "x";
    inside = inside.flatMap((point, index) => {
      const next = inside[(index + 1) % inside.length];
      const depth = sign * (point[axis] - edge);
      const nextDepth = sign * (next[axis] - edge);
      const kept = depth >= 0 ? [point] : [];
      if (depth < 0 === nextDepth < 0) return kept;
      const share = depth / (depth - nextDepth);
      const crossing = /** @type {Point} */ ({
        [axis]: edge,
        [other]: point[other] + share * (next[other] - point[other]),
      });
      return [...kept, crossing];
    });
  }
  return Math.min(1, Math.max(0, 1 - area(inside) / whole));
}

/**
 * Return what can be sampled of a picture, and the area of a pixel of the network's input, in pixels of the picture.
 *
 * @param {number} height @param {number} width @param {Manifest} manifest
 */
function view(height, width, manifest) {
  const { scale, offset } = place(height, width, manifest.preprocess);
  const pixel = (4 * scale[0] * scale[1]) / (manifest.preprocess.width * manifest.preprocess.height);
  const seen = {
    left: Math.max(-0.5, offset[0] - scale[0]),
    top: Math.max(-0.5, offset[1] - scale[1]),
    right: Math.min(width - 0.5, offset[0] + scale[0]),
    bottom: Math.min(height - 0.5, offset[1] + scale[1]),
  };
  return { seen, pixel };
}

/**
 * Return the area of a polygon by the shoelace formula; its sign says which way round it goes.
 *
 * @param {Point[]} polygon
 */
function area(polygon) {
  return (
    polygon.reduce((sum, { x, y }, index) => {
      const next = polygon[(index + 1) % polygon.length];
      return sum + x * next.y - next.x * y;
    }, 0) / 2
  );
}
