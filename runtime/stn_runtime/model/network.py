"""A model file opened in onnxruntime: one graph, or two with the device's own warp between them."""

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from ..errors import ModelContractError
from ..images.preprocessing import Image
from .manifest import Manifest
from .session import CLASSIFIER_KEY, GRID, WARPED, check_probabilities, open_session, read_manifest
from .warping import warp


class Network:
    """An open model file.

    Args:
        model: The file, or its bytes.
        manifest: Replaces the manifest of a file that carries none.
        threads: Number of onnxruntime's threads; None takes one for each CPU that this process may use.
        providers: Execution providers, all of which must be available; None takes CUDA or else the CPU.
        spin: Whether idle threads of onnxruntime spin or sleep; those of a split file always sleep.
        optimize: Whether onnxruntime may rewrite the graph.

    Raises:
        ModelContractError: The file is missing, damaged, or keeps no manifest.
        InputError: A provider that was named is not available.
    """

    def __init__(
        self,
        model: Path | bytes,
        *,
        manifest: Manifest | None = None,
        threads: int | None = None,
        providers: Sequence[str] | None = None,
        spin: bool = True,
        optimize: bool = True,
    ) -> None:
        self.source = str(model) if isinstance(model, Path) else "the model"
        # The graphs and the warp take turns: threads that spin after one would take the CPUs from the next.
        spin = spin and not _may_be_split(model)

        def opened(part: Path | bytes, name: str) -> ort.InferenceSession:
            return open_session(part, threads=threads, providers=providers, spin=spin, optimize=optimize, name=name)

        self.session = opened(model, self.source)
        self.manifest = manifest or read_manifest(self.session, self.source)
        self._one_by_one = self.session.get_inputs()[0].shape[0] == 1  # for a target that wants fixed shapes
        self._classifier: ort.InferenceSession | None = None
        if self.manifest.export.form == "split":
            data = _classifier_of(self.session, self.source)
            self._classifier = opened(data, f"{self.source}, its classifier graph")
            self._check_classifier(self._classifier)

    def _check_classifier(self, classifier: ort.InferenceSession) -> None:
        channels = self.manifest.preprocess.channels
        expected = {
            WARPED.format(number): [1 if self._one_by_one else "N", channels, *transformer.output_size]
            for number, transformer in enumerate(self.manifest.transformers)
        }
        inputs = {
            entry.name: [entry.shape[0] if isinstance(entry.shape[0], int) else "N", *entry.shape[1:]]
            for entry in classifier.get_inputs()
        }
        if inputs != expected:
            raise ModelContractError(
                f"{self.source}: its classifier graph takes {inputs}, expected {expected}; export it again"
            )
        check_probabilities(classifier, self.manifest, self.source)

    def run(
        self,
        batch: NDArray[np.uint8],
        frames: Sequence[Image] | None = None,
        given: Mapping[str, NDArray[np.generic]] | None = None,
    ) -> dict[str, NDArray[np.generic]]:
        """Return the outputs by the names in the manifest.

        Args:
            batch: Preprocessed pictures (N, H, W, C).
            frames: The pictures they were made of; the split form samples these. By default the batch itself.
            given: Values of further inputs of the graph, where it has any, one for each picture.
        """
        pictures: Sequence[Image] = list(batch) if frames is None else frames
        if self._one_by_one and len(batch) > 1:
            each = [
                self.run(
                    batch[index : index + 1],
                    pictures[index : index + 1],
                    {name: values[index : index + 1] for name, values in (given or {}).items()},
                )
                for index in range(len(batch))
            ]
            return {name: np.concatenate([outputs[name] for outputs in each]) for name in each[0]}
        fed = {"image": batch, **(given or {})}
        if self._classifier is None:
            return self._run(self.session, self.manifest.outputs, fed)
        names = [output.name for output in self.session.get_outputs()]
        found = self._run(self.session, names, fed)
        spec = self.manifest.preprocess
        warped = {
            WARPED.format(number): np.stack(
                [
                    warp(picture, points, transformer, spec)
                    for picture, points in zip(pictures, found[GRID.format(number)], strict=True)
                ]
            )
            for number, transformer in enumerate(self.manifest.transformers)
        }
        outputs = self._run(self._classifier, ["probabilities"], warped)
        outputs |= {name: found[name] for name in ("theta", "outline")}
        if "rectified" in self.manifest.outputs:
            last = warped[WARPED.format(len(warped) - 1)]
            outputs["rectified"] = np.rint(last.clip(0, 1) * 255).astype(np.uint8).transpose(0, 2, 3, 1)
        return outputs

    def _run(
        self, session: ort.InferenceSession, names: Sequence[str], fed: Mapping[str, NDArray[np.generic]]
    ) -> dict[str, NDArray[np.generic]]:
        try:
            found = dict(zip(names, map(np.asarray, session.run(list(names), fed)), strict=True))
        except Exception as error:  # onnxruntime's exceptions share no base class but this one
            reason = " ".join(str(error).split())
            raise ModelContractError(
                f"{self.source}: onnxruntime cannot run it ({reason[:200]}); export the model again"
            ) from error
        count = len(next(iter(fed.values())))
        for name, values in found.items():
            if values.shape[:1] != (count,):
                raise ModelContractError(
                    f"{self.source}: output '{name}' is {values.shape} for {count} pictures; export the model again"
                )
        return found


def _may_be_split(model: Path | bytes) -> bool:
    """Return whether a file may hold a second graph; known before it is opened, so that it is opened once."""
    try:
        return CLASSIFIER_KEY.encode() in (model if isinstance(model, bytes) else model.read_bytes())
    except OSError:  # opening it tells why
        return False


def _classifier_of(session: ort.InferenceSession, source: str) -> bytes:
    text = session.get_modelmeta().custom_metadata_map.get(CLASSIFIER_KEY)
    if text is None:
        raise ModelContractError(f"{source}: is of the split form but carries no classifier graph; export it again")
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:
        raise ModelContractError(f"{source}: its classifier graph is damaged ({error}); export it again") from error
