"""A model file opened in onnxruntime: one graph, or two with the device's own warp between them."""

import base64
import mmap
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from ..errors import ModelContractError
from ..images.preprocessing import Image, PreprocessSpec
from .contract import GRID, WARPED, check_answers, check_probabilities, listed
from .manifest import Manifest
from .session import CLASSIFIER_KEY, open_session, read_manifest, reason_of, within_bounds
from .warping import warp

_MOST_BYTES = 1 << 31  # of an ONNX file, which is a message of protocol buffers


class Network:
    """An open model file, whose answers to one picture of noise have been checked.

    Args:
        model: The file, or its bytes.
        manifest: Replaces the manifest of a file that carries none; such a file is the caller's own, and is not run.
        threads: Number of onnxruntime's threads; None takes one for each CPU that this process may use.
        providers: Execution providers, all of which must be available; None takes CUDA or else the CPU.
        spin: Whether idle threads of onnxruntime spin or sleep; those of a split file always sleep.
        optimize: Whether onnxruntime may rewrite the graph.

    Raises:
        ModelContractError: The file is missing, damaged, keeps no manifest, answers otherwise than its manifest says,
            or cannot be opened and run once within bounds of time and memory.
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
        self._model = model
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
        self._run_options: ort.RunOptions | None = None
        self._shapes: dict[str, tuple[int, ...]] = {}  # of the outputs, for one picture
        if manifest is None:
            self._check_first_run()

    def run_bounded(self, batch: NDArray[np.uint8], what: str) -> dict[str, NDArray[np.generic]]:
        """Return the outputs for a batch whose pictures the file itself may have chosen; no other run goes beside it.

        Args:
            batch: Preprocessed pictures (N, H, W, C).
            what: What the run is, as the subject of a sentence.

        Raises:
            ModelContractError: It took more time or memory than one run may.
        """
        options = self._run_options = ort.RunOptions()

        def stop() -> None:
            options.terminate = True

        providers = self.session.get_providers()
        try:
            return within_bounds(lambda: self.run(batch), stop, what, self.source, self._model, providers)
        finally:
            self._run_options = None

    def _check_first_run(self) -> None:
        outputs = self.run_bounded(_noise(self.manifest.preprocess), "its first run")
        check_answers(outputs, self.manifest, self.source)
        self._shapes = {name: values.shape[1:] for name, values in outputs.items()}

    def _check_classifier(self, classifier: ort.InferenceSession) -> None:
        channels = self.manifest.preprocess.channels
        expected = {
            WARPED.format(number): [1 if self._one_by_one else "N", channels, *transformer.output_size]
            for number, transformer in enumerate(self.manifest.transformers)
        }
        inputs = {
            entry.name: [*("N" if not isinstance(size, int) else size for size in entry.shape[:1]), *entry.shape[1:]]
            for entry in classifier.get_inputs()
        }
        if inputs != expected:
            raise ModelContractError(
                f"{self.source}: its classifier graph takes {listed(inputs)}, expected {listed(expected)}; "
                "export it again"
            )
        check_probabilities(classifier, self.manifest, self.source)

    def run(
        self,
        batch: NDArray[np.uint8],
        frames: Sequence[Image] | None = None,
        given: Mapping[str, NDArray[np.generic]] | None = None,
        grids: Sequence[NDArray[np.float32]] | None = None,
    ) -> dict[str, NDArray[np.generic]]:
        """Return the outputs by the names in the manifest.

        Args:
            batch: Preprocessed pictures (N, H, W, C).
            frames: The pictures they were made of; the split form samples these. By default the batch itself.
            given: Values of further inputs of the graph, where it has any, one for each picture.
            grids: Of a split file: the sampling grid (h, w, 2) that each transformer uses instead of its own.
        """
        pictures: Sequence[Image] = list(batch) if frames is None else frames
        if self._one_by_one and len(batch) > 1:
            each = [
                self.run(
                    batch[index : index + 1],
                    pictures[index : index + 1],
                    {name: values[index : index + 1] for name, values in (given or {}).items()},
                    grids,
                )
                for index in range(len(batch))
            ]
            return {name: np.concatenate([outputs[name] for outputs in each]) for name in each[0]}
        fed = {"image": batch, **(given or {})}
        if self._classifier is None:
            return self._run(self.session, self.manifest.outputs, fed)
        names = [output.name for output in self.session.get_outputs()]
        found = self._run(self.session, names, fed)
        for number, grid in enumerate(grids or ()):
            found[GRID.format(number)] = np.broadcast_to(grid, (len(batch), *grid.shape))
        warped = self._warped(pictures, found)
        outputs = self._run(self._classifier, ["probabilities"], warped)
        outputs |= {name: found[name] for name in ("theta", "outline")}
        if "rectified" in self.manifest.outputs:
            last = warped[WARPED.format(len(warped) - 1)]
            outputs["rectified"] = np.rint(last.clip(0, 1) * 255).astype(np.uint8).transpose(0, 2, 3, 1)
        return outputs

    def _warped(
        self, pictures: Sequence[Image], found: Mapping[str, NDArray[np.generic]]
    ) -> dict[str, NDArray[np.float32]]:
        """Return what each transformer samples of the pictures, by the names of the classifier graph's inputs."""
        spec = self.manifest.preprocess
        warped = {}
        for number, transformer in enumerate(self.manifest.transformers):
            name = GRID.format(number)
            grids = found[name].astype(np.float32, copy=False)
            if grids.shape[1:] != (*transformer.output_size, 2):
                raise ModelContractError(
                    f"{self.source}: output '{name}' is {grids.shape}, the manifest says N x "
                    f"{transformer.output_size[0]} x {transformer.output_size[1]} points; export the model again"
                )
            warped[WARPED.format(number)] = np.stack(
                [warp(picture, grid, transformer, spec) for picture, grid in zip(pictures, grids, strict=True)]
            )
        return warped

    def _run(
        self, session: ort.InferenceSession, names: Sequence[str], fed: Mapping[str, NDArray[np.generic]]
    ) -> dict[str, NDArray[np.generic]]:
        try:
            answers = session.run(list(names), fed, self._run_options)
            found = dict(zip(names, map(np.asarray, answers), strict=True))
        except Exception as error:  # onnxruntime's exceptions share no base class but this one
            raise ModelContractError(
                f"{self.source}: onnxruntime cannot run it ({reason_of(error)}); export the model again"
            ) from error
        count = len(next(iter(fed.values())))
        for name, values in found.items():
            if values.shape[:1] != (count,):
                raise ModelContractError(
                    f"{self.source}: output '{listed(name)}' is {values.shape} for {count} pictures; "
                    "export the model again"
                )
            expected = self._shapes.get(name)
            if expected is not None and values.shape[1:] != expected:
                raise ModelContractError(
                    f"{self.source}: output '{listed(name)}' is {values.shape[1:]} for a picture, and was {expected} "
                    "for another; export the model again"
                )
        return found


def _may_be_split(model: Path | bytes) -> bool:
    """Return whether a file may hold a second graph; known before it is opened, so that it is opened once."""
    key = CLASSIFIER_KEY.encode()
    if isinstance(model, bytes):
        return key in model
    try:
        if model.stat().st_size > _MOST_BYTES:  # opening it tells so
            return False
        with model.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return data.find(key) >= 0
    except (OSError, ValueError):  # not there, or empty: opening it tells so
        return False


def _classifier_of(session: ort.InferenceSession, source: str) -> bytes:
    text = session.get_modelmeta().custom_metadata_map.get(CLASSIFIER_KEY)
    if text is None:
        raise ModelContractError(f"{source}: is of the split form but carries no classifier graph; export it again")
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:
        raise ModelContractError(f"{source}: its classifier graph is damaged ({error}); export it again") from error


def _noise(spec: PreprocessSpec) -> NDArray[np.uint8]:
    """Return a picture that no network takes for a special case, as black is where contrast is normalised.

    Each byte is the highest of its number times 2^32 / 1.618 (Fibonacci hashing, Knuth 6.4), (1, H, W, C).
    """
    numbers = np.arange(spec.height * spec.width * spec.channels, dtype=np.uint32) * np.uint32(2654435769)
    return (numbers >> np.uint32(24)).astype(np.uint8).reshape(1, spec.height, spec.width, spec.channels)
