/** Answers of the page's own modules to questions, one JSON line each, for tests that ask Python the same. */

import { createInterface } from "node:readline";

import { doubt, outsideShare } from "../../runtime/web/page/doubt.js";
import { replay } from "../../runtime/web/page/golden.js";
import { readManifest } from "../../runtime/web/page/manifest.js";
import { halfToNumber } from "../../runtime/web/page/network.js";
import { predict, record } from "../../runtime/web/page/prediction.js";
import { place, preprocess } from "../../runtime/web/page/preprocessing.js";

const bytes = (text) => new Uint8Array(Buffer.from(text, "base64"));
const questions = {
  preprocess: ({ height, width, data, spec }) =>
    Buffer.from(preprocess({ height, width, step: 3, data: bytes(data) }, spec)).toString("base64"),
  place: ({ height, width, spec }) => place(height, width, spec),
  manifest: ({ data }) => readManifest(bytes(data), "model.onnx"),
  prediction: ({ outputs, height, width, manifest, threshold, count }) =>
    record(predict(outputs, height, width, manifest, threshold, count), { source: "it", frame: 0, time: null, latency: {} }),
  doubt: ({ probabilities, theta, outlines, height, width, manifest }) =>
    doubt(probabilities, theta, outlines, height, width, manifest),
  outside: ({ polygon, rectangle }) => outsideShare(polygon, rectangle),
  half: ({ values }) => values.map(halfToNumber),
  replay: ({ manifest, outputs }) => replay(manifest, async () => outputs.shift()),
};

for await (const line of createInterface({ input: process.stdin })) {
  const { what, ...question } = JSON.parse(line);
  let answer;
  try {
    answer = { value: await questions[what](question) };
  } catch (error) {
    answer = { error: error.message };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
