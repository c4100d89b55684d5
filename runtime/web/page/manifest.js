/**
 * The manifest: the description of a model, stored as JSON in the metadata of its ONNX file.
 *
 * @typedef {{ name: string, grid: string, theta: [number, number], input_size: [number, number],
 *   output_size: [number, number], align_corners: boolean, on_image: boolean }} TransformerSpec
 * @typedef {{ image: string, outputs: Record<string, string> }} GoldenVector
 * @typedef {{ mean: number[], whitening: number[][], limit: number }} ThetaStatistics
 * @typedef {{
 *   name: string, labels: string[], preprocess: import("./preprocessing.js").PreprocessSpec,
 *   transformers: TransformerSpec[], outputs: string[], export: { form: string, precision: string },
 *   verification: Record<string, any>, metrics: Record<string, number>, golden: GoldenVector[],
 *   theta: ThetaStatistics | null, reject: string | null, threshold: number | null,
 *   sequence: { length: number, end: string } | null, schema: number }} Manifest
 */

const METADATA_KEY = "stn_edge";
const SCHEMA = 1;
const DEFAULTS = { verification: {}, golden: [], theta: null, reject: null, threshold: null, sequence: null };
const METADATA_FIELD = 14; // of ModelProto: metadata_props, a key and a value each (onnx.proto3)

/** A sentence for the person before the page: what is wrong, and what to do. */
export class InputError extends Error {}

/**
 * Return the manifest of a model file.
 *
 * @param {Uint8Array} bytes of an ONNX file
 * @param {string} source its name, for messages
 * @returns {Manifest}
 * @throws {InputError} it is no such file, or not one that this page can run
 */
export function readManifest(bytes, source) {
  const text = metadata(bytes, source).get(METADATA_KEY);
  if (text === undefined) {
    throw new InputError(`${source}: carries no manifest; take a file that 'stn export' wrote.`);
  }
  let manifest;
  try {
    manifest = JSON.parse(text);
  } catch {
    throw new InputError(`${source}: its manifest is not JSON; export the model again.`);
  }
  if (manifest?.schema > SCHEMA) {
    throw new InputError(`${source}: was made by a newer version of stn-edge; make this page anew with that version.`);
  }
  const fault = faultOf(manifest);
  if (fault) throw new InputError(`${source}: the manifest's ${fault}; export the model again.`);
  if (manifest.export.form === "split") {
    throw new InputError(`${source}: is of the split form, which a page does not run; export it with --target web.`);
  }
  return { ...DEFAULTS, ...manifest };
}

/**
 * Return what a manifest lacks of all that this page relies on, in words; an empty text when it lacks nothing.
 *
 * @param {any} manifest
 */
function faultOf(manifest) {
  const isList = Array.isArray;
  /** @param {unknown} value */
  const isText = (value) => typeof value === "string";
  const { preprocess: spec, labels, transformers, threshold, sequence } = manifest ?? {};
  if (!isText(manifest?.name) || !isText(manifest.export?.form)) return "name or form is missing";
  if (!isList(labels) || !labels.length || !labels.every(isText)) return "labels are no list of names";
  const sides = [spec?.height, spec?.width];
  if (!sides.every((side) => Number.isInteger(side) && side > 0) || sides[0] * sides[1] > 1 << 26) {
    return "preprocess asks for a picture of no usable size";
  }
  if (![1, 3].includes(spec.channels)) return "preprocess asks for neither grey nor RGB";
  if (!["stretch", "letterbox", "crop"].includes(spec.fit)) return "preprocess names no known fit";
  if (!["area", "linear"].includes(spec.interpolation)) return "preprocess names no known interpolation";
  if (!isList(transformers) || !isList(manifest.outputs)) return "transformers or outputs are no list";
  if (!manifest.outputs.includes("probabilities")) return "outputs lack 'probabilities'";
  if (threshold != null && !(threshold >= 0 && threshold <= 1)) return "threshold is not from 0 to 1";
  if (manifest.reject != null && !labels.includes(manifest.reject)) return "reject is none of the labels";
  if (sequence && !labels.includes(sequence.end)) return "sequence ends with none of the labels";
  return "";
}

/**
 * Return the metadata of an ONNX file by key.
 *
 * @param {Uint8Array} bytes
 * @param {string} source
 * @returns {Map<string, string>}
 */
function metadata(bytes, source) {
  const text = new TextDecoder();
  const values = new Map();
  try {
    for (const [field, content] of fields(bytes)) {
      if (field !== METADATA_FIELD) continue;
      const entry = new Map(fields(content));
      values.set(text.decode(entry.get(1)), text.decode(entry.get(2)));
    }
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw new InputError(`${source}: is no whole ONNX file; copy or export it again.`);
  }
  return values;
}

/**
 * Go through a protocol buffer: number and content of each of its fields (protobuf's encoding, "Message structure").
 *
 * @param {Uint8Array} bytes
 * @returns {Generator<[number, Uint8Array]>}
 * @throws {RangeError} it is none, or cut off
 */
function* fields(bytes) {
  let at = 0;
  const number = () => {
    let value = 0;
    for (let shift = 1; ; shift *= 128) {
      if (at >= bytes.length || shift > 2 ** 63) throw new RangeError("cut off");
      const byte = bytes[at++];
      value += (byte & 127) * shift;
      if (byte < 128) return value;
    }
  };
  while (at < bytes.length) {
    const tag = number();
    const kind = tag % 8;
    const start = at;
    let length = 0;
    if (kind === 0) number();
    else if (kind === 1) length = 8;
    else if (kind === 5) length = 4;
    else if (kind === 2) length = number();
    else throw new RangeError("no protocol buffer");
    const from = kind === 2 ? at : start;
    if (kind !== 0) at = from + length;
    if (at > bytes.length) throw new RangeError("cut off");
    yield [Math.floor(tag / 8), bytes.subarray(from, at)];
  }
}
