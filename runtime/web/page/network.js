/**
 * The network in onnxruntime-web: in WebAssembly, or on the GPU.
 *
 * @typedef {"wasm" | "webgpu"} Engine
 * @typedef {{ wasm: Uint8Array | string, threads: number }} Place
 *   `wasm` is onnxruntime's machine code, or its address.
 */

import { InputError } from "stn-edge-web/manifest.js";

const SIMD = new Uint8Array([
  0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11,
]); // a function that makes a vector of 128 bits

/** An open network; one picture at a time. */
export class Network {
  /**
   * @param {any} ort onnxruntime-web
   * @param {any} session
   * @param {import("./manifest.js").Manifest} manifest
   */
  constructor(ort, session, manifest) {
    this.ort = ort;
    this.session = session;
    this.manifest = manifest;
  }

  /**
   * @param {Uint8Array} model an ONNX file
   * @param {import("./manifest.js").Manifest} manifest
   * @param {Engine} engine
   * @param {Place} place of onnxruntime's files
   * @throws {InputError} this browser cannot run it
   */
  static async open(model, manifest, engine, place) {
    if (typeof WebAssembly === "undefined" || !WebAssembly.validate(SIMD)) {
      throw new InputError(
        "This browser has no WebAssembly with SIMD, in which the network runs; update it, or allow WebAssembly.",
      );
    }
    try {
      const ort = await import(engine === "webgpu" ? "onnxruntime-web/webgpu" : "onnxruntime-web");
      ort.env.wasm.numThreads = place.threads;
      if (typeof place.wasm === "string") ort.env.wasm.wasmPaths = { wasm: place.wasm };
      else ort.env.wasm.wasmBinary = place.wasm;
      const session = await ort.InferenceSession.create(model, { executionProviders: [engine] });
      return new Network(ort, session, manifest);
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      throw new InputError(`${manifest.name}: onnxruntime-web cannot open it (${reason.slice(0, 300)}).`, {
        cause: error,
      });
    }
  }

  /**
   * Return the outputs for one preprocessed picture (H, W, C), by name.
   *
   * @param {Uint8Array} image
   * @returns {Promise<Record<string, ArrayLike<number>>>}
   */
  async run(image) {
    const { height, width, channels } = this.manifest.preprocess;
    const input = new this.ort.Tensor("uint8", image, [1, height, width, channels]);
    const outputs = await this.session.run({ image: input });
    return Object.fromEntries(this.manifest.outputs.map((name) => [name, numbers(outputs[name])]));
  }

  /** Free what it holds. */
  async close() {
    await this.session.release();
  }
}

/**
 * Return the numbers of a tensor; a browser without half precision gives these as their bits.
 *
 * @param {{ type: string, data: any }} tensor
 * @returns {ArrayLike<number>}
 */
function numbers({ type, data }) {
  return type === "float16" && data instanceof Uint16Array ? Float32Array.from(data, halfToNumber) : data;
}

/**
 * Return the number that 16 bits mean (IEEE 754, binary16).
 *
 * @param {number} bits
 */
export function halfToNumber(bits) {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -14 * (fraction / 1024));
}
