/** The page: proves the network in this browser, then runs it on a camera or on pictures. */

import { listCameras, openCamera } from "stn-edge-web/camera.js";
import { contextOf, drawImage } from "stn-edge-web/drawing.js";
import { replay } from "stn-edge-web/golden.js";
import { InputError, readManifest } from "stn-edge-web/manifest.js";
import { Network } from "stn-edge-web/network.js";
import { predict, record } from "stn-edge-web/prediction.js";
import { preprocess } from "stn-edge-web/preprocessing.js";
import { Records } from "stn-edge-web/records.js";
import {
  addThumbnail,
  elements,
  named,
  setText,
  showAnswer,
  showNoAnswer,
  showMessage,
  showState,
} from "stn-edge-web/view.js";

const MOST_THREADS = 4;
const MOST_FAULTS = 5; // that are named at once
const RATE_MS = 1000;

const settings = JSON.parse(elements.settings.textContent);
const video = Object.assign(document.createElement("video"), { muted: true, playsInline: true });
const work = document.createElement("canvas"); // the picture without anything drawn on it
const records = new Records();

/** @type {Uint8Array} */
let model;
/** @type {import("./manifest.js").Manifest} */
let manifest;
/** @type {Network | null} */
let network = null;
/** @type {MediaStream | null} */
let stream = null;
let frames = 0; // of the camera
let opening = 0; // how many times pictures are being opened
/** @type {number[]} when the last frames were done */
let moments = [];

/**
 * Return the bytes of a part of this page: those written into it, or of the file beside it.
 *
 * @param {string} name
 * @param {string} address
 */
async function load(name, address) {
  const inline = document.querySelector(`script[data-inline="${name}"]`);
  if (inline) {
    const packed = Uint8Array.from(atob(inline.textContent ?? ""), (character) => character.charCodeAt(0));
    inline.textContent = "";
    const unpacked = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Uint8Array(await new Response(unpacked).arrayBuffer());
  }
  const answer = await fetch(address).catch(() => null);
  if (!answer?.ok) {
    const why = answer ? `the server answers ${answer.status}` : "the server cannot be reached";
    throw new InputError(`${address} cannot be loaded: ${why}. Make the page anew, and serve its folder whole.`);
  }
  return new Uint8Array(await answer.arrayBuffer());
}

/**
 * Open the network in an engine and let it prove itself.
 *
 * @param {import("./network.js").Engine} engine
 */
async function openProven(engine) {
  const file = engine === "webgpu" ? "ort/ort.webgpu.wasm" : "ort/ort.wasm";
  const isInline = document.querySelector("script[data-inline=wasm]");
  const wasm = isInline ? await load("wasm", file) : new URL(file, document.baseURI).href;
  const opened = await Network.open(model, manifest, engine, { wasm, threads: threads() });
  const parity = await replay(manifest, (image) => opened.run(image));
  const worst = parity.differences.map(({ name, value, allowed }) =>
    name === "rectified"
      ? `crop ${value} of 255 levels (${allowed} allowed)`
      : `${name} ${value.toExponential(1)} (${allowed.toExponential(0)} allowed)`,
  );
  const found = `${parity.pictures} recorded answers replayed; largest differences: ${worst.join(", ")}`;
  if (!parity.passed) {
    await opened.close();
    throw new InputError(
      engine === "webgpu"
        ? `On WebGPU the network answers otherwise here than at its export, so it goes on in WebAssembly. ${found}.`
        : `In this browser the network answers otherwise than at its export, so it is not used. ${found}. ` +
            "Try another browser, or update this one.",
    );
  }
  setText(elements.proof, `${found}. This is the network that was exported.`);
  elements.proof.dataset.passed = "true";
  return opened;
}

/** Several threads need a page that is isolated from others; on iOS they hang even then (onnxruntime#11679). */
function threads() {
  const isIos =
    /iP(hone|ad|od)/.test(navigator.userAgent) || (/Mac/.test(navigator.userAgent) && navigator.maxTouchPoints > 1);
  return self.crossOriginIsolated && !isIos ? Math.min(MOST_THREADS, navigator.hardwareConcurrency || 1) : 1;
}

/**
 * Classify the picture on the work canvas, show what came of it, and keep the record.
 *
 * @param {string} source
 * @param {number | null} time
 * @param {number} decode milliseconds
 */
async function classify(source, time, decode) {
  if (!network) throw new InputError("The network is not open; load the page again.");
  const { width, height } = work;
  const started = performance.now();
  const { data } = contextOf(work).getImageData(0, 0, width, height);
  const input = preprocess({ height, width, step: 4, data }, manifest.preprocess);
  const resized = performance.now();
  const outputs = await network.run(input);
  const inferred = performance.now();
  const prediction = predict(outputs, height, width, manifest, threshold());
  const latency = { decode, resize: resized - started, infer: inferred - resized };
  records.add(record(prediction, { source, frame: time === null ? 0 : frames++, time, latency }));
  showAnswer(work, { prediction, outputs, source, latency }, manifest);
  showCount();
  return prediction;
}

function showCount() {
  setText(elements.count, String(records.count));
  for (const button of [elements.save, elements.clear]) button.disabled = records.count === 0;
}

function threshold() {
  return isShare(elements.threshold.valueAsNumber) ? elements.threshold.valueAsNumber : (manifest.threshold ?? 0);
}

/** @param {number} value */
const isShare = (value) => value >= 0 && value <= 1;

function checkThreshold() {
  if (isShare(elements.threshold.valueAsNumber)) return;
  const own = String(manifest.threshold ?? 0);
  elements.threshold.value = own;
  showMessage(`The least confidence of a label is a number from 0 to 1, such as 0.9; it is the model's ${own} again.`);
}

async function startCamera() {
  showMessage("");
  elements.start.disabled = true;
  try {
    const opened = await openCamera(elements.camera.value);
    stream = opened;
    video.srcObject = opened;
    const [track] = opened.getVideoTracks();
    track.addEventListener("ended", () => {
      if (stream === opened) stopCamera("The camera is gone: plug it in again and start it, or open pictures instead.");
    });
    await video.play();
    await showCameras(track.getSettings().deviceId);
    moments = [];
    elements.start.hidden = true;
    elements.stop.hidden = false;
    elements.stop.focus();
    showState("live", "good");
    follow(opened, track.label || "camera");
  } catch (error) {
    stopCamera(explained(error, "The camera cannot be shown"));
  } finally {
    elements.start.disabled = false;
  }
}

/** @param {string} reason why it is not the person's wish; empty when it is */
function stopCamera(reason = "") {
  const hadFocus = document.activeElement === elements.stop;
  const tracks = stream?.getTracks() ?? [];
  stream = null;
  for (const track of tracks) track.stop();
  video.srcObject = null;
  elements.start.hidden = false;
  elements.stop.hidden = true;
  if (hadFocus) elements.start.focus();
  setText(elements.rate, "–");
  showState(network ? "ready" : "not started", network ? "good" : "bad");
  if (reason) showMessage(reason);
}

/**
 * Classify the frames of a camera, always the newest, until it is stopped.
 *
 * @param {MediaStream} followed
 * @param {string} name
 */
async function follow(followed, name) {
  while (stream === followed) {
    await newFrame();
    if (stream !== followed || document.hidden || !video.videoWidth) continue;
    try {
      const started = performance.now();
      drawImage(work, video, video.videoHeight, video.videoWidth);
      await classify(name, Date.now() / 1000, performance.now() - started);
      countFrame();
    } catch (error) {
      if (stream === followed) stopCamera(explained(error, "The camera's picture cannot be classified"));
    }
  }
}

/** Wait for the next frame of the video; a tab that is hidden gets none until it is shown again. */
function newFrame() {
  return new Promise((resolve) => {
    if ("requestVideoFrameCallback" in video) video.requestVideoFrameCallback(resolve);
    else requestAnimationFrame(resolve);
    setTimeout(resolve, RATE_MS); // a camera that stopped, or was stopped, gives no frame
  });
}

function countFrame() {
  const now = performance.now();
  moments = [...moments.filter((moment) => now - moment < RATE_MS), now];
  const span = now - moments[0];
  if (moments.length > 1) setText(elements.rate, ((1000 * (moments.length - 1)) / span).toFixed(0));
}

/** @param {string | undefined} current */
async function showCameras(current) {
  const cameras = await listCameras();
  if (!cameras.length) return;
  const chosen = current ?? elements.camera.value;
  const options = cameras.map(({ id, name }) => new Option(name, id, false, id === chosen));
  const facing = [new Option("rear", "environment"), new Option("front", "user")];
  elements.camera.replaceChildren(...facing, ...options);
  elements.camera.value = cameras.some(({ id }) => id === chosen) ? chosen : "environment";
}

/** @param {Iterable<File>} files */
async function openPictures(files) {
  const chosen = [...files];
  if (!chosen.length) return;
  if (!network) {
    if (elements.message.hidden) showMessage("The network is not ready yet: open the pictures again when it is.");
    return;
  }
  if (stream) stopCamera();
  showMessage("");
  const faults = [];
  opening++;
  elements.start.disabled = true;
  for (const [index, file] of chosen.entries()) {
    showState(`picture ${index + 1} of ${chosen.length}`);
    try {
      const started = performance.now();
      if (!file.size) throw new InputError(`${file.name}: is empty (0 bytes).`);
      const image = await createImageBitmap(file, { colorSpaceConversion: "none" }).catch(() => {
        throw new InputError(`${file.name}: is damaged, or no picture that this browser can read (JPEG, PNG, WebP).`);
      });
      drawImage(work, image, image.height, image.width);
      image.close();
      const prediction = await classify(file.name, null, performance.now() - started);
      addThumbnail(file.name, named(prediction));
    } catch (error) {
      const sentence = explained(error, `${file.name}: cannot be classified`);
      records.add({ source: file.name, frame: 0, time: null, error: sentence });
      showNoAnswer(file.name, "cannot be read");
      faults.push(sentence);
    }
  }
  opening--;
  elements.start.disabled = opening > 0;
  showCount();
  showState("ready", "good");
  const unnamed = faults.length - MOST_FAULTS;
  showMessage([...faults.slice(0, MOST_FAULTS), ...(unnamed > 0 ? [`And ${unnamed} more.`] : [])].join(" "));
}

/** @param {unknown} error @param {string} what */
function explained(error, what) {
  if (error instanceof InputError) return error.message;
  console.error(error);
  return `${what} (${String(error).slice(0, 200)}); load the page again.`;
}

async function changeEngine() {
  const before = network;
  const isLive = stream !== null;
  if (isLive) stopCamera();
  showMessage("");
  showState("proving");
  elements.engine.disabled = true;
  try {
    network = await openProven(elements.engine.value);
    await before?.close();
  } catch (error) {
    network = before;
    elements.engine.value = elements.engine.value === "webgpu" ? "wasm" : "webgpu";
    showMessage(explained(error, "The network cannot be opened there"));
  }
  elements.engine.disabled = false;
  showState(network ? "ready" : "not started", network ? "good" : "bad");
  if (isLive && network) await startCamera();
}

function saveRecords() {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(records.blob());
  link.download = `${manifest.name}.jsonl`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

function clearRecords() {
  records.clear();
  elements.sheet.replaceChildren();
  showCount();
  if (!stream) showNoAnswer("", "–");
  elements.start.focus();
}

function listen() {
  elements.start.addEventListener("click", startCamera);
  elements.stop.addEventListener("click", () => stopCamera());
  elements.camera.addEventListener("change", () => {
    if (!stream) return;
    stopCamera();
    startCamera();
  });
  elements.open.addEventListener("click", () => elements.files.click());
  elements.files.addEventListener("change", async () => {
    await openPictures(elements.files.files);
    elements.files.value = ""; // so that the same file can be opened again
  });
  elements.engine.addEventListener("change", changeEngine);
  elements.threshold.addEventListener("change", checkThreshold);
  elements.save.addEventListener("click", saveRecords);
  elements.clear.addEventListener("click", clearRecords);
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    openPictures(event.dataTransfer?.files ?? []);
  });
  document.addEventListener("paste", (event) => openPictures(event.clipboardData?.files ?? []));
  document.addEventListener("visibilitychange", () => {
    if (stream) showState(document.hidden ? "paused" : "live", document.hidden ? "" : "good");
    moments = [];
  });
  navigator.mediaDevices?.addEventListener?.("devicechange", () => showCameras(undefined));
}

async function main() {
  listen();
  try {
    model = await load("model", settings.model);
    manifest = readManifest(model, settings.model);
    setText(elements.name, manifest.name);
    document.title = `${manifest.name} · stn-edge`;
    elements.threshold.value = String(manifest.threshold ?? 0);
    showState("proving");
    network = await openProven("wasm");
    await showCameras(undefined).catch(() => {}); // a list that is not had is asked for again with the camera
    for (const control of [elements.start, elements.open]) control.disabled = false;
    const gpu = /** @type {any} */ (navigator).gpu;
    const hasGpu = !document.querySelector("script[data-inline]") && (await gpu?.requestAdapter().catch(() => null));
    elements.engine.querySelector("[value=webgpu]").hidden = !hasGpu;
    elements.engine.disabled = !hasGpu;
    elements.hint.hidden = false;
    showState("ready", "good");
  } catch (error) {
    showState("not started", "bad");
    showMessage(explained(error, "The page cannot start"));
  }
}

main();
