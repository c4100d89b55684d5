/**
 * From a picture of any size to the network's input, to the bit as stn_runtime does it.
 *
 * What stn_runtime leaves to OpenCV is written out here as OpenCV 4 computes it for 8-bit pictures: `INTER_AREA` in
 * float32, `INTER_LINEAR` in fixed point with 11 bits, `COLOR_RGB2GRAY` with 15.
 *
 * @typedef {{ height: number, width: number, channels: number, step: number, data: ArrayLike<number> }} Picture
 *   Rows of pixels, `step` numbers from pixel to pixel, of which the first `channels` count: RGB, or RGBA of a canvas.
 * @typedef {{ height: number, width: number, channels: number, fit: "stretch" | "letterbox" | "crop",
 *   interpolation: "area" | "linear" }} PreprocessSpec
 * @typedef {{ top: number, left: number, height: number, width: number }} Region
 * @typedef {{ scale: [number, number], offset: [number, number] }} Placement
 *   x and y of a picture, pixels, are those of the input, -1 to 1, times scale plus offset.
 */

const LINEAR_ONE = 2048;

/**
 * Return a picture as the network's input, (height, width, channels).
 *
 * @param {Picture} picture RGB or RGBA
 * @param {PreprocessSpec} spec
 * @returns {Uint8Array}
 */
export function preprocess(picture, spec) {
  const whole = { top: 0, left: 0, height: picture.height, width: picture.width };
  if (spec.fit === "letterbox") {
    const place = letterboxed(picture.height, picture.width, spec);
    const fitted = resize(picture, whole, place.height, place.width, spec.interpolation);
    return asChannels(framed(fitted, place, spec, picture.channels), picture.channels, spec.channels);
  }
  const region = spec.fit === "crop" ? cropped(picture.height, picture.width, spec) : whole;
  const fitted = resize(picture, region, spec.height, spec.width, spec.interpolation);
  return asChannels(fitted, picture.channels, spec.channels);
}

/**
 * Return where the network's input lies in a picture.
 *
 * @param {number} height of the picture, pixels
 * @param {number} width
 * @param {PreprocessSpec} spec
 * @returns {Placement}
 */
export function place(height, width, spec) {
  if (spec.fit === "crop") {
    const part = cropped(height, width, spec);
    return {
      scale: [part.width / 2, part.height / 2],
      offset: [part.left + (part.width - 1) / 2, part.top + (part.height - 1) / 2],
    };
  }
  const part =
    spec.fit === "letterbox"
      ? letterboxed(height, width, spec)
      : { top: 0, left: 0, height: spec.height, width: spec.width };
  const x = width / part.width;
  const y = height / part.height; // pixels of the picture per pixel of the input
  return {
    scale: [(spec.width / 2) * x, (spec.height / 2) * y],
    offset: [(spec.width / 2 - part.left) * x - 0.5, (spec.height / 2 - part.top) * y - 0.5],
  };
}

/**
 * Return which part of a picture the network sees.
 *
 * @param {number} height
 * @param {number} width
 * @param {PreprocessSpec} spec
 * @returns {Region}
 */
export function seenPart(height, width, spec) {
  return spec.fit === "crop" ? cropped(height, width, spec) : { top: 0, left: 0, height, width };
}

/**
 * Return a part of a picture at another size, its pixels packed.
 *
 * @param {Picture} picture
 * @param {Region} region
 * @param {number} rows
 * @param {number} columns
 * @param {"area" | "linear"} interpolation
 * @returns {Uint8Array}
 */
export function resize(picture, region, rows, columns, interpolation) {
  if (region.height === rows && region.width === columns) return copied(picture, region);
  const down = region.height / rows;
  const across = region.width / columns;
  const shrinks = down >= 1 && across >= 1;
  const halves = down === 2 && across === 2; // which OpenCV averages even when told to be linear
  if (shrinks && (interpolation === "area" || halves)) {
    const isWhole = Number.isInteger(down) && Number.isInteger(across);
    return isWhole ? averaged(picture, region, rows, columns) : weighted(picture, region, rows, columns);
  }
  return bilinear(picture, region, rows, columns);
}

/** @param {Picture} picture @param {Region} region */
function copied(picture, region) {
  const { channels, step, data } = picture;
  const out = new Uint8Array(region.height * region.width * channels);
  let to = 0;
  for (let row = 0; row < region.height; row++) {
    let from = ((region.top + row) * picture.width + region.left) * step;
    for (let column = 0; column < region.width; column++, from += step) {
      for (let channel = 0; channel < channels; channel++) out[to++] = data[from + channel];
    }
  }
  return out;
}

/**
 * Shrink by whole factors: the mean of each block, halves rounded to even but for blocks of four.
 *
 * @param {Picture} picture @param {Region} region @param {number} rows @param {number} columns
 */
function averaged(picture, region, rows, columns) {
  const { channels, step, data } = picture;
  const down = region.height / rows;
  const across = region.width / columns;
  const share = Math.fround(1 / (down * across));
  const isFour = down === 2 && across === 2;
  const out = new Uint8Array(rows * columns * channels);
  const sums = new Uint32Array(columns * channels);
  for (let row = 0; row < rows; row++) {
    sums.fill(0);
    for (let inner = 0; inner < down; inner++) {
      let from = ((region.top + row * down + inner) * picture.width + region.left) * step;
      for (let column = 0; column < columns; column++) {
        for (let beside = 0; beside < across; beside++, from += step) {
          for (let channel = 0; channel < channels; channel++)
            sums[column * channels + channel] += data[from + channel];
        }
      }
    }
    const first = row * columns * channels;
    for (let index = 0; index < sums.length; index++) {
      out[first + index] = isFour ? (sums[index] + 2) >> 2 : roundHalfEven(Math.fround(sums[index] * share));
    }
  }
  return out;
}

/**
 * Shrink by any factors: each source pixel counts by how much of it the target pixel covers.
 *
 * @param {Picture} picture @param {Region} region @param {number} rows @param {number} columns
 */
function weighted(picture, region, rows, columns) {
  const { channels, step, data } = picture;
  const across = coverage(region.width, columns);
  const down = coverage(region.height, rows);
  const out = new Uint8Array(rows * columns * channels);
  const sums = new Float32Array(columns * channels);
  const line = new Float32Array(columns * channels);
  for (let row = 0; row < rows; row++) {
    for (let entry = down.starts[row]; entry < down.starts[row + 1]; entry++) {
      const first = ((region.top + down.sources[entry]) * picture.width + region.left) * step;
      line.fill(0);
      for (let column = 0; column < columns; column++) {
        for (let part = across.starts[column]; part < across.starts[column + 1]; part++) {
          const from = first + across.sources[part] * step;
          for (let channel = 0; channel < channels; channel++) {
            line[column * channels + channel] += Math.fround(data[from + channel] * across.weights[part]);
          }
        }
      }
      const weight = down.weights[entry];
      const isFirst = entry === down.starts[row];
      for (let index = 0; index < sums.length; index++) {
        const share = Math.fround(weight * line[index]);
        sums[index] = isFirst ? share : sums[index] + share;
      }
    }
    out.set(sums.map(roundHalfEven), row * columns * channels);
  }
  return out;
}

/**
 * Return which source pixels each target pixel covers along an axis, and by which share of itself.
 *
 * @param {number} sourceSize @param {number} targetSize
 */
function coverage(sourceSize, targetSize) {
  const scale = 1 / (targetSize / sourceSize);
  const least = 1e-3; // of a pixel
  /** @type {number[]} */
  const sources = [];
  /** @type {number[]} */
  const weights = [];
  const starts = [0];
  for (let target = 0; target < targetSize; target++) {
    const from = target * scale;
    const to = from + scale;
    const width = Math.min(scale, sourceSize - from);
    const end = Math.min(Math.floor(to), sourceSize - 1);
    const begin = Math.min(Math.ceil(from), end);
    if (begin - from > least) {
      sources.push(begin - 1);
      weights.push((begin - from) / width);
    }
    for (let source = begin; source < end; source++) {
      sources.push(source);
      weights.push(1 / width);
    }
    if (to - end > least) {
      sources.push(end);
      weights.push(Math.min(to - end, 1, width) / width);
    }
    starts.push(sources.length);
  }
  return { sources, weights: Float32Array.from(weights), starts };
}

/**
 * @param {Picture} picture @param {Region} region @param {number} rows @param {number} columns
 */
function bilinear(picture, region, rows, columns) {
  const { channels, step, data } = picture;
  const across = neighbours(region.width, columns, true);
  const down = neighbours(region.height, rows, false);
  const out = new Uint8Array(rows * columns * channels);
  const size = columns * channels;
  /** @type {Map<number, Int32Array>} */
  const lines = new Map();
  /** @param {number} row */
  const stretched = (row) => {
    const known = lines.get(row);
    if (known) return known;
    if (lines.size > 2) lines.delete(Math.min(...lines.keys()));
    const line = new Int32Array(size);
    const first = ((region.top + row) * picture.width + region.left) * step;
    for (let column = 0; column < columns; column++) {
      const from = first + across.near[column] * step;
      const next = first + across.far[column] * step;
      for (let channel = 0; channel < channels; channel++) {
        line[column * channels + channel] =
          data[from + channel] * across.nearShare[column] + data[next + channel] * across.farShare[column];
      }
    }
    lines.set(row, line);
    return line;
  };
  for (let row = 0; row < rows; row++) {
    const upper = stretched(down.near[row]);
    const lower = stretched(down.far[row]);
    for (let index = 0; index < size; index++) {
      const above = ((upper[index] >> 4) * down.nearShare[row]) >> 16;
      const below = ((lower[index] >> 4) * down.farShare[row]) >> 16;
      out[row * size + index] = (above + below + 2) >> 2;
    }
  }
  return out;
}

/**
 * Return the two source pixels of each target pixel along an axis, and their shares of 2048.
 *
 * Beyond an edge both are the pixel at the edge: along a row it counts whole, down a column OpenCV keeps the shares,
 * which round otherwise.
 *
 * @param {number} sourceSize @param {number} targetSize @param {boolean} isRow
 */
function neighbours(sourceSize, targetSize, isRow) {
  const scale = 1 / (targetSize / sourceSize);
  const last = sourceSize - 1;
  const near = new Int32Array(targetSize);
  const far = new Int32Array(targetSize);
  const nearShare = new Int32Array(targetSize);
  const farShare = new Int32Array(targetSize);
  for (let target = 0; target < targetSize; target++) {
    const place = Math.fround((target + 0.5) * scale - 0.5);
    const before = Math.floor(place);
    const beyond = isRow && (before < 0 || before >= last) ? 0 : Math.fround(place - before);
    near[target] = Math.min(Math.max(before, 0), last);
    far[target] = Math.min(Math.max(before + 1, 0), last);
    nearShare[target] = roundHalfEven(Math.fround(1 - beyond) * LINEAR_ONE);
    farShare[target] = roundHalfEven(beyond * LINEAR_ONE);
  }
  return { near, far, nearShare, farShare };
}

/**
 * @param {Uint8Array} pixels @param {Region} part @param {PreprocessSpec} spec @param {number} channels
 */
function framed(pixels, part, spec, channels) {
  const canvas = new Uint8Array(spec.height * spec.width * channels);
  const length = part.width * channels;
  for (let row = 0; row < part.height; row++) {
    const to = ((part.top + row) * spec.width + part.left) * channels;
    canvas.set(pixels.subarray(row * length, (row + 1) * length), to);
  }
  return canvas;
}

/** @param {Uint8Array} pixels @param {number} from @param {number} to */
function asChannels(pixels, from, to) {
  if (from === to) return pixels;
  const count = pixels.length / from;
  const out = new Uint8Array(count * to);
  for (let pixel = 0; pixel < count; pixel++) {
    if (to === 3) out.fill(pixels[pixel], 3 * pixel, 3 * pixel + 3);
    else
      out[pixel] =
        (pixels[3 * pixel] * 9798 + pixels[3 * pixel + 1] * 19235 + pixels[3 * pixel + 2] * 3735 + 16384) >> 15;
  }
  return out;
}

/**
 * @param {number} height @param {number} width @param {PreprocessSpec} spec
 * @returns {Region} pixels of the input
 */
function letterboxed(height, width, spec) {
  const factor = Math.min(spec.height / height, spec.width / width);
  const rows = Math.max(1, roundHalfEven(height * factor));
  const columns = Math.max(1, roundHalfEven(width * factor));
  return {
    top: Math.floor((spec.height - rows) / 2),
    left: Math.floor((spec.width - columns) / 2),
    height: rows,
    width: columns,
  };
}

/**
 * @param {number} height @param {number} width @param {PreprocessSpec} spec
 * @returns {Region} pixels of the picture
 */
function cropped(height, width, spec) {
  const factor = Math.max(spec.height / height, spec.width / width);
  const rows = Math.min(height, Math.max(1, roundHalfEven(spec.height / factor)));
  const columns = Math.min(width, Math.max(1, roundHalfEven(spec.width / factor)));
  return {
    top: Math.floor((height - rows) / 2),
    left: Math.floor((width - columns) / 2),
    height: rows,
    width: columns,
  };
}

/** @param {number} value */
function roundHalfEven(value) {
  const low = Math.floor(value);
  const rest = value - low;
  return rest > 0.5 || (rest === 0.5 && low % 2) ? low + 1 : low;
}
