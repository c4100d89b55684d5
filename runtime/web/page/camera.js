/** Cameras of this device: which there are, opening one, and what went wrong in words. */

import { InputError } from "stn-edge-web/manifest.js";

const OTHERWISE = "open pictures instead";

/**
 * Return the cameras that can be chosen; their names are known once one has been allowed.
 *
 * @returns {Promise<{ id: string, name: string }[]>}
 */
export async function listCameras() {
  const devices = (await navigator.mediaDevices?.enumerateDevices()) ?? [];
  const cameras = devices.filter(({ kind, deviceId }) => kind === "videoinput" && deviceId);
  return cameras.map(({ deviceId, label }, index) => ({ id: deviceId, name: label || `camera ${index + 1}` }));
}

/**
 * Open a camera at about 640 x 480.
 *
 * @param {string} choice `environment` (rear), `user` (front), or the id of a camera
 * @returns {Promise<MediaStream>}
 * @throws {InputError} there is none, or it may not be used
 */
export async function openCamera(choice) {
  if (!navigator.mediaDevices?.getUserMedia) {
    throw new InputError(
      `This page has no access to cameras: open it by https, from localhost, or as a file; or ${OTHERWISE}.`,
    );
  }
  const isFacing = choice === "environment" || choice === "user";
  const which = isFacing ? { facingMode: choice } : { deviceId: { exact: choice } };
  const video = { ...which, width: { ideal: 640 }, height: { ideal: 480 } };
  try {
    return await navigator.mediaDevices.getUserMedia({ video, audio: false });
  } catch (error) {
    throw new InputError(sentence(error), { cause: error });
  }
}

/**
 * Return why a camera cannot be opened (Media Capture and Streams, section 10.2).
 *
 * @param {unknown} error
 */
function sentence(error) {
  const name = error instanceof Error || error instanceof DOMException ? error.name : "";
  switch (name) {
    case "NotAllowedError":
      return `The camera was refused: allow it for this page in the browser's address bar, then start it again; or ${OTHERWISE}.`;
    case "NotFoundError":
    case "OverconstrainedError":
      return `No such camera is connected: plug it in, or choose another, and start it again; or ${OTHERWISE}.`;
    case "NotReadableError":
    case "AbortError":
      return `The camera cannot be read: close other programs that use it and start it again; or ${OTHERWISE}.`;
    default:
      return `The camera cannot be opened (${String(error).slice(0, 200)}); choose another, or ${OTHERWISE}.`;
  }
}
