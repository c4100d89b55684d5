/** What the page shows: its state, an answer with outline and crop, and the row of pictures that were opened. */

import { contextOf, drawImage, drawOutlines, drawPixels } from "stn-edge-web/drawing.js";
import { seenPart } from "stn-edge-web/preprocessing.js";

const MOST_SHOWN = 60; // opened pictures in the row below
const THUMBNAIL = 120; // pixels

/** @type {Record<string, any>} the elements of the page by their id */
export const elements = Object.fromEntries(
  [...document.querySelectorAll("[id]")].map((element) => [element.id, element]),
);

/** @param {string} text @param {"" | "good" | "bad"} kind */
export function showState(text, kind = "") {
  setText(elements.state, text);
  elements.state.className = `state ${kind}`;
}

/** @param {string} text */
export function showMessage(text) {
  setText(elements.message, text);
  elements.message.hidden = !text;
  if (text) elements.message.scrollIntoView({ block: "nearest" });
}

/** @param {HTMLElement} element @param {string} text */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text; // a text set anew would be read out anew
}

/** @param {number} share @param {number} digits */
const percent = (share, digits = 1) => `${(100 * share).toFixed(digits)}\u00a0%`;

/**
 * Show an answer.
 *
 * @param {HTMLCanvasElement} picture without anything drawn on it
 * @param {{ prediction: import("./prediction.js").Prediction, outputs: Record<string, ArrayLike<number>>,
 *   source: string, latency: Record<string, number> }} answer
 * @param {import("./manifest.js").Manifest} manifest
 */
export function showAnswer(picture, { prediction, outputs, source, latency }, manifest) {
  const { width, height } = picture;
  drawImage(elements.picture, picture, height, width);
  drawOutlines(elements.picture, prediction.outlines, seenPart(height, width, manifest.preprocess));
  const sampler = manifest.transformers.filter((transformer) => transformer.on_image).at(-1);
  if (outputs.rectified && sampler) {
    drawPixels(elements.rectified, outputs.rectified, sampler.output_size[0], sampler.output_size[1]);
  }
  elements.crop.hidden = !(outputs.rectified && sampler);
  elements.hint.hidden = true;
  setText(elements.source, source);
  setText(elements.label, named(prediction));
  elements.label.classList.toggle("unlabelled", prediction.label === null);
  elements.label.classList.toggle("long", named(prediction).length > 10);
  setText(elements.confidence, prediction.label === null ? "" : percent(prediction.confidence, 0));
  setText(elements.uncertain, prediction.uncertain ? `uncertain: ${prediction.uncertain}` : "");
  showTop(prediction.top);
  for (const [stage, milliseconds] of Object.entries(latency)) setText(elements[stage], milliseconds.toFixed(1));
}

/**
 * Show that there is no answer, and none of an earlier one.
 *
 * @param {string} source
 * @param {string} words
 */
export function showNoAnswer(source, words) {
  contextOf(elements.picture).clearRect(0, 0, elements.picture.width, elements.picture.height);
  elements.crop.hidden = true;
  setText(elements.source, source);
  setText(elements.label, words);
  elements.label.className = "label unlabelled";
  for (const element of [elements.confidence, elements.uncertain]) setText(element, "");
  elements.top.replaceChildren();
}

/**
 * Show the most probable labels; the rows stay where they are, since new ones with every frame cost time.
 *
 * @param {import("./prediction.js").Score[]} top
 */
function showTop(top) {
  if (elements.top.children.length !== 3 * top.length) {
    elements.top.replaceChildren(...top.flatMap(() => [newElement("span", ""), newBar(), newElement("span", "")]));
  }
  for (const [row, { label, probability }] of top.entries()) {
    const [name, bar, share] = [0, 1, 2].map((column) => elements.top.children[3 * row + column]);
    setText(name, label || "no text");
    bar.firstChild.style.width = `${100 * probability}%`;
    setText(share, percent(probability));
  }
}

function newBar() {
  const bar = newElement("div", "", "bar");
  bar.append(newElement("i", ""));
  return bar;
}

/**
 * Return a prediction in words: its label, or why it has none.
 *
 * @param {import("./prediction.js").Prediction} prediction
 */
export function named({ label, rejected, top, confidence }) {
  return label ?? `${rejected ? "no label" : "unsure"}: ${top[0].label || "no text"}, ${percent(confidence, 0)}`;
}

/** @param {string} tag @param {string} text @param {string} className */
function newElement(tag, text, className = "") {
  const element = document.createElement(tag);
  element.textContent = text;
  element.className = className;
  return element;
}

/**
 * Add a picture, as it is shown, to the row of those that were opened.
 *
 * @param {string} name
 * @param {string} caption
 */
export function addThumbnail(name, caption) {
  const thumbnail = document.createElement("canvas");
  const { width, height } = elements.picture;
  const scale = THUMBNAIL / Math.max(width, height);
  drawImage(thumbnail, elements.picture, Math.max(1, height * scale), Math.max(1, width * scale));
  const item = newElement("figure", "");
  item.setAttribute("role", "listitem");
  item.title = name;
  item.append(thumbnail, newElement("figcaption", caption));
  elements.sheet.prepend(item);
  while (elements.sheet.children.length > MOST_SHOWN) elements.sheet.lastChild.remove();
}
