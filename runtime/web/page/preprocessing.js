/**
 * From a picture of any size to the network's input, to the bit as stn_runtime does it.
 *
 * What stn_runtime leaves to OpenCV is written out here as OpenCV 4 computes it for 8-bit pictures: `INTER_AREA` in
 * float32, `INTER_LINEAR` in fixed point with 11 bits, `COLOR_RGB2GRAY` with 15.
 *
 * @typedef {{ height: number, width: number, step: number, data: Uint8Array | Uint8ClampedArray }} Picture
 *   Rows of pixels, `step` numbers from pixel to pixel: RGB, or RGBA of a canvas, where the fourth does not count.
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
 * @param {Picture} picture
 * @param {PreprocessSpec} spec
 * @returns {Uint8Array}
 */
export function preprocess(picture, spec) {
  const whole = { top: 0, left: 0, height: picture.height, width: picture.width };
  if (spec.fit === "letterbox") {
    const place = letterboxed(picture.height, picture.width, spec);
    const fitted = resize(picture, whole, place.height, place.width, spec.interpolation);
    return asChannels(framed(fitted, place, spec), spec.channels);
  }
  const region = spec.fit === "crop" ? cropped(picture.height, picture.width, spec) : whole;
  const fitted = resize(picture, region, spec.height, spec.width, spec.interpolation);
  return asChannels(fitted, spec.channels);
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
 * Return a part of a picture at another size, RGB, (rows, columns, 3).
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
function copied({ width, step, data }, region) {
  const out = new Uint8Array(3 * region.height * region.width);
  let to = 0;
  for (let row = 0; row < region.height; row++) {
    let from = ((region.top + row) * width + region.left) * step;
    for (let column = 0; column < region.width; column++, from += step) {
      out[to++] = data[from];
      out[to++] = data[from + 1];
      out[to++] = data[from + 2];
    }
  }
  return out;
}

/**
 * Shrink by whole factors: the mean of each block, halves rounded to even but for blocks of four.
 *
 * @param {Picture} picture @param {Region} region @param {number} rows @param {number} columns
 */
function averaged({ width, step, data }, region, rows, columns) {
  const down = region.height / rows;
  const across = region.width / columns;
  const share = Math.fround(1 / (down * across));
  const isFour = down === 2 && across === 2;
  const out = new Uint8Array(3 * rows * columns);
  const sums = new Uint32Array(3 * columns);
  for (let row = 0; row < rows; row++) {
    sums.fill(0);
    for (let inner = 0; inner < down; inner++) {
      let from = ((region.top + row * down + inner) * width + region.left) * step;
      for (let to = 0; to < sums.length; to += 3) {
        let red = 0;
        let green = 0;
        let blue = 0;
        for (const end = from + across * step; from < end; from += step) {
          red += data[from];
          green += data[from + 1];
          blue += data[from + 2];
        }
        sums[to] += red;
        sums[to + 1] += green;
        sums[to + 2] += blue;
      }
    }
    const first = row * sums.length;
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
function weighted({ width, step, data }, region, rows, columns) {
  const { sources, weights, starts } = coverage(region.width, columns);
  const down = coverage(region.height, rows);
  const { fround } = Math;
  const out = new Uint8Array(3 * rows * columns);
  const sums = new Float32Array(3 * columns);
  for (let row = 0; row < rows; row++) {
    sums.fill(0);
    for (let entry = down.starts[row]; entry < down.starts[row + 1]; entry++) {
      const first = ((region.top + down.sources[entry]) * width + region.left) * step;
      const share = down.weights[entry];
      let part = 0;
      for (let column = 0; column < columns; column++) {
        let red = 0;
        let green = 0;
        let blue = 0;
        for (const end = starts[column + 1]; part < end; part++) {
          const from = first + sources[part] * step;
          const weight = weights[part];
          red = fround(red + fround(data[from] * weight));
          green = fround(green + fround(data[from + 1] * weight));
          blue = fround(blue + fround(data[from + 2] * weight));
        }
        const to = 3 * column;
        sums[to] += fround(red * share);
        sums[to + 1] += fround(green * share);
        sums[to + 2] += fround(blue * share);
      }
    }
    const first = row * sums.length;
    for (let index = 0; index < sums.length; index++) out[first + index] = roundHalfEven(sums[index]);
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
  return { sources: Int32Array.from(sources), weights: Float32Array.from(weights), starts: Int32Array.from(starts) };
}

/**
 * @param {Picture} picture @param {Region} region @param {number} rows @param {number} columns
 */
function bilinear({ width, step, data }, region, rows, columns) {
  const across = neighbours(region.width, columns, true);
  const down = neighbours(region.height, rows, false);
  const size = 3 * columns;
  const out = new Uint8Array(rows * size);
  /** @type {Map<number, Int32Array>} */
  const lines = new Map();
  /** @param {number} row */
  const stretched = (row) => {
    const known = lines.get(row);
    if (known) return known;
    if (lines.size > 2) lines.delete(Math.min(...lines.keys()));
    const line = new Int32Array(size);
    const first = ((region.top + row) * width + region.left) * step;
    for (let column = 0; column < columns; column++) {
      const near = first + across.near[column] * step;
      const far = first + across.far[column] * step;
      for (let colour = 0; colour < 3; colour++) {
        line[3 * column + colour] =
          data[near + colour] * across.nearShare[column] + data[far + colour] * across.farShare[column];
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

/** @param {Uint8Array} pixels @param {Region} part @param {PreprocessSpec} spec */
function framed(pixels, part, spec) {
  const canvas = new Uint8Array(3 * spec.height * spec.width);
  const length = 3 * part.width;
  for (let row = 0; row < part.height; row++) {
    const to = 3 * ((part.top + row) * spec.width + part.left);
    canvas.set(pixels.subarray(row * length, (row + 1) * length), to);
  }
  return canvas;
}

/** @param {Uint8Array} pixels RGB @param {number} channels */
function asChannels(pixels, channels) {
  if (channels === 3) return pixels;
  const out = new Uint8Array(pixels.length / 3);
  for (let to = 0, from = 0; to < out.length; to++, from += 3) {
    out[to] = (pixels[from] * 9798 + pixels[from + 1] * 19235 + pixels[from + 2] * 3735 + 16384) >> 15;
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
