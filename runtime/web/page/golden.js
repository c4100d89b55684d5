/**
 * Golden vectors: inputs with the outputs recorded at export, replayed in this browser before it is trusted.
 *
 * @typedef {import("./manifest.js").Manifest} Manifest
 * @typedef {{ name: string, value: number, allowed: number }} Difference
 * @typedef {{ differences: Difference[], labelsDiffer: number, pictures: number, passed: boolean }} Parity
 */

import { InputError } from "stn-edge-web/manifest.js";

/** @type {Record<string, Record<string, number>>} those of stn_runtime, for a processor other than the export's */
const TOLERANCES = {
  float32: { probabilities: 1e-4, theta: 1e-4, outline: 1e-4, rectified: 1 },
  float16: { probabilities: 1e-2, theta: 1e-2, outline: 1e-2, rectified: 16 },
  int8: { probabilities: 5e-2, theta: 2e-2, outline: 2e-2, rectified: 32 },
};
const MOST_BYTES = 2 ** 27; // of one array; a few bytes could unpack to gigabytes

/**
 * Run every golden vector of a model and return how far its answers are from the recorded ones.
 *
 * @param {Manifest} manifest
 * @param {(image: Uint8Array) => Promise<Record<string, ArrayLike<number>>>} run the network on one input
 * @returns {Promise<Parity>}
 * @throws {InputError} the file has no golden vectors, or damaged ones
 */
export async function replay(manifest, run) {
  const allowed = tolerances(manifest);
  if (!manifest.golden?.length) {
    throw new InputError(`${manifest.name}: carries no golden vectors to prove itself with; export it again.`);
  }
  /** @type {Map<string, number>} */
  const largest = new Map();
  let labelsDiffer = 0;
  for (const [index, vector] of manifest.golden.entries()) {
    const { image, recorded } = await unpacked(vector, index, manifest);
    const actual = await run(image);
    for (const [name, expected] of Object.entries(recorded)) {
      if (actual[name]?.length !== expected.length || !(name in allowed)) {
        throw new InputError(`${manifest.name}: golden vector ${index} is damaged; export the model again.`);
      }
      largest.set(name, Math.max(largest.get(name) ?? 0, farthest(expected, actual[name])));
    }
    const classes = manifest.labels.length;
    if (anyLabelDiffers(recorded.probabilities, actual.probabilities, classes, allowed.probabilities)) labelsDiffer++;
  }
  const differences = [...largest].map(([name, value]) => ({ name, value, allowed: allowed[name] }));
  const passed = !labelsDiffer && differences.every(({ value, allowed }) => value <= allowed);
  return { differences, labelsDiffer, pictures: manifest.golden.length, passed };
}

/**
 * Return what golden vectors may differ by: the table's, or what the export allowed, where that is more.
 *
 * @param {Manifest} manifest
 */
function tolerances(manifest) {
  const { precision } = manifest.export;
  const allowed = { ...(TOLERANCES[precision] ?? TOLERANCES.float32) };
  const own = precision === "float32" ? manifest.verification?.theta_own?.allowed : null;
  for (const [name, value] of Object.entries(own ?? {})) {
    if (name in allowed && Number.isFinite(value)) allowed[name] = Math.max(allowed[name], value);
  }
  return allowed;
}

/**
 * @param {import("./manifest.js").GoldenVector} vector @param {number} index @param {Manifest} manifest
 * @returns {Promise<{ image: Uint8Array, recorded: Record<string, Float32Array> }>}
 */
async function unpacked(vector, index, manifest) {
  const { height, width, channels } = manifest.preprocess;
  try {
    const image = await inflated(vector.image);
    const outputs = Object.entries(vector.outputs).map(async ([name, text]) => {
      const bytes = await inflated(text);
      return [name, new Float32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4)];
    });
    const recorded = Object.fromEntries(await Promise.all(outputs));
    if (image.length !== height * width * channels || !recorded.probabilities) throw new RangeError("of another size");
    return { image, recorded };
  } catch (error) {
    throw new InputError(`${manifest.name}: golden vector ${index} is damaged; export the model again.`, {
      cause: error,
    });
  }
}

/**
 * Return the bytes that zlib and base64 made a text of.
 *
 * @param {string} text
 */
async function inflated(text) {
  const packed = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  const reader = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate")).getReader();
  const parts = [];
  let length = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    parts.push(value);
    length += value.length;
    if (length > MOST_BYTES) throw new RangeError("too large");
  }
  const bytes = new Uint8Array(length);
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

/**
 * Return the largest difference of two arrays; NaN is infinitely far from anything.
 *
 * @param {ArrayLike<number>} expected @param {ArrayLike<number>} actual
 */
function farthest(expected, actual) {
  let most = 0;
  for (let index = 0; index < expected.length; index++) {
    if (Object.is(expected[index], actual[index])) continue; // two infinities are no NaN apart
    const apart = Math.abs(expected[index] - actual[index]);
    most = Number.isNaN(apart) ? Infinity : Math.max(most, apart);
  }
  return most;
}

/**
 * Return whether at any position another label is the most probable; labels that tie within `tie` are equal.
 *
 * @param {ArrayLike<number>} expected @param {ArrayLike<number>} actual @param {number} classes @param {number} tie
 */
function anyLabelDiffers(expected, actual, classes, tie) {
  for (let first = 0; first < expected.length; first += classes) {
    const best = first + indexOfMost(expected, first, classes);
    const given = first + indexOfMost(actual, first, classes);
    if (!(expected[best] - expected[given] <= tie)) return true;
  }
  return false;
}

/**
 * @param {ArrayLike<number>} values @param {number} first @param {number} count
 */
function indexOfMost(values, first, count) {
  let best = 0;
  for (let index = 1; index < count; index++) if (values[first + index] > values[first + best]) best = index;
  return best;
}
