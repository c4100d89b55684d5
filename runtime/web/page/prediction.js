/**
 * From the network's outputs to what a person and a record say of one picture, as stn_runtime does it.
 *
 * @typedef {import("./manifest.js").Manifest} Manifest
 * @typedef {{ label: string, probability: number }} Score
 * @typedef {{ x: number, y: number }} Point
 * @typedef {Record<string, ArrayLike<number>>} Outputs by name, of one picture
 * @typedef {{ top: Score[], characters: Score[], confidence: number, rejected: boolean, sure: boolean,
 *   label: string | null, theta: number[], outlines: Point[][], uncertain: string | null }} Prediction
 *   Outlines are the borders of the sampling grids, in pixels of the picture, (0, 0) the centre of the first.
 */

import { doubt } from "stn-edge-web/doubt.js";
import { place } from "stn-edge-web/preprocessing.js";

const LEAST = 1e-30; // a probability of 0 has no logarithm

/**
 * Return what the outputs say of one picture.
 *
 * @param {Outputs} outputs
 * @param {number} height of the picture, pixels
 * @param {number} width
 * @param {Manifest} manifest
 * @param {number} threshold confidence below which there is no label
 * @param {number} count of labels, or texts, that are listed
 * @returns {Prediction}
 */
export function predict(outputs, height, width, manifest, threshold, count = 5) {
  const { top, characters } = bestAnswers(outputs.probabilities, manifest, count);
  const { label, probability: confidence } = top[0];
  const rejected = label === manifest.reject || (manifest.sequence !== null && label === "");
  const sure = confidence >= threshold;
  const theta = outputs.theta ? Array.from(outputs.theta) : [];
  const outlines = outputs.outline ? outlinesOf(outputs.outline, height, width, manifest) : [];
  return {
    top,
    characters,
    confidence,
    rejected,
    sure,
    label: rejected || !sure ? null : label,
    theta,
    outlines,
    uncertain: doubt(outputs.probabilities, theta, outlines, height, width, manifest),
  };
}

/**
 * Return the record of one picture, the same fields as the lines of `stn run`.
 *
 * @param {Prediction} prediction
 * @param {{ source: string, frame: number, time: number | null, latency: Record<string, number> }} origin
 */
export function record(prediction, origin) {
  /** @param {Score[]} scores */
  const scores = (scores) => scores.map(({ label, probability }) => ({ label, probability: rounded(probability, 6) }));
  const { label, confidence, rejected, top, characters, theta, outlines, uncertain } = prediction;
  return {
    source: origin.source,
    frame: origin.frame,
    time: origin.time,
    label,
    confidence: rounded(confidence, 6),
    rejected,
    top: scores(top),
    ...(characters.length ? { characters: scores(characters) } : {}),
    theta: theta.map((value) => rounded(value, 6)),
    outline: outlines.map((points) => points.map(({ x, y }) => [rounded(x, 2), rounded(y, 2)])),
    uncertain,
    latency_ms: Object.fromEntries(Object.entries(origin.latency).map(([stage, ms]) => [stage, rounded(ms, 3)])),
  };
}

/**
 * Return the most probable labels or texts, best first, and the characters of the first text.
 *
 * @param {ArrayLike<number>} probabilities (K,), or (D, K) of a network that spells texts
 * @param {Manifest} manifest
 * @param {number} count
 * @returns {{ top: Score[], characters: Score[] }}
 */
export function bestAnswers(probabilities, manifest, count) {
  const { labels, sequence } = manifest;
  if (!sequence) {
    const best = ranked(probabilities, 0, labels.length).slice(0, count);
    return { top: best.map((index) => ({ label: labels[index], probability: probabilities[index] })), characters: [] };
  }
  const texts = likelyTexts(probabilities, labels.length, labels.indexOf(sequence.end), count);
  const top = texts.map(({ text, score }) => ({
    label: text.map((index) => labels[index]).join(""),
    probability: Math.exp(score),
  }));
  const characters = texts[0].text.map((index, position) => ({
    label: labels[index],
    probability: probabilities[position * labels.length + index],
  }));
  return { top, characters };
}

/**
 * Return the most probable texts: the product of its characters' probabilities and that of the end behind them.
 *
 * @param {ArrayLike<number>} probabilities (D, K)
 * @param {number} classes K
 * @param {number} end index of the label behind the last character
 * @param {number} count
 */
function likelyTexts(probabilities, classes, end, count) {
  /** @typedef {{ text: number[], score: number }} Text */
  /** @param {Text[]} texts */
  const best = (texts) => texts.sort((one, other) => other.score - one.score).slice(0, count);
  /** @type {Text[]} */
  let growing = [{ text: [], score: 0 }];
  /** @type {Text[]} */
  const ended = [];
  for (let first = 0; first < probabilities.length; first += classes) {
    /** @param {number} index */
    const score = (index) => Math.log(Math.max(probabilities[first + index], LEAST));
    ended.push(...growing.map((text) => ({ text: text.text, score: text.score + score(end) })));
    const likely = ranked(probabilities, first, classes)
      .filter((index) => index !== end)
      .slice(0, count);
    growing = best(
      growing.flatMap(({ text, score: before }) =>
        likely.map((index) => ({ text: [...text, index], score: before + score(index) })),
      ),
    );
  }
  return best([...ended, ...growing]);
}

/**
 * Return the indices of probabilities, the largest first.
 *
 * @param {ArrayLike<number>} values @param {number} first @param {number} count
 */
function ranked(values, first, count) {
  return Array.from({ length: count }, (_, index) => index).sort(
    (one, other) => values[first + other] - values[first + one],
  );
}

/**
 * Return the borders of the sampling grids that lie on the picture, in its pixels.
 *
 * @param {ArrayLike<number>} outline (T, M, 2), in coordinates of the input, -1 to 1
 * @param {number} height @param {number} width @param {Manifest} manifest
 */
function outlinesOf(outline, height, width, manifest) {
  const { scale, offset } = place(height, width, manifest.preprocess);
  const points = outline.length / manifest.transformers.length / 2;
  return manifest.transformers.flatMap((transformer, number) => {
    if (!transformer.on_image) return [];
    const [rows, columns] = transformer.input_size;
    const reach = transformer.align_corners ? [(columns - 1) / columns, (rows - 1) / rows] : [1, 1];
    return [
      Array.from({ length: points }, (_, index) => {
        const at = 2 * (number * points + index);
        return {
          x: outline[at] * reach[0] * scale[0] + offset[0],
          y: outline[at + 1] * reach[1] * scale[1] + offset[1],
        };
      }),
    ];
  });
}

/**
 * Return a rounded number; null for NaN and infinity, which JSON lacks.
 *
 * @param {number} value @param {number} digits
 */
function rounded(value, digits) {
  return Number.isFinite(value) ? Math.round(value * 10 ** digits) / 10 ** digits : null;
}
