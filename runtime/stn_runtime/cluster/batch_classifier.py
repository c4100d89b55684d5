"""A classifier for ``ray.data.Dataset.map_batches``: bytes or arrays in, the columns of records out."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ImageReadError
from ..images.preprocessing import Image, PreprocessSpec, largest_reduction
from ..images.reading import decode_reduced
from ..model.classifier import Classifier
from ..model.zoo import DEFAULT_MODEL, find_model
from ..pipeline.pipeline import classify
from ..sources.frame import Frame
from ..sources.source import Source
from .parquet_records import table_of
from .partitions import row_name


class BatchClassifier:
    """An exported model that classifies batches of pictures; it travels to other machines with its file.

    ``dataset.map_batches(BatchClassifier, fn_constructor_kwargs={"model": "digits"}, compute=ActorPoolStrategy(size=8),
    num_cpus=1)`` classifies a dataset with a column ``bytes`` of encoded pictures, as ``ray.data.read_binary_files``
    makes, or ``image`` of arrays, as ``ray.data.read_images`` does.

    Args:
        model: A released model's name, an .onnx file of this machine, or its bytes.
        threads: Number of onnxruntime's threads.
        providers: Execution providers, all of which must be available; None takes CUDA or else the CPU.
        topk: Number of labels, or texts, that a record lists.
        threshold: Confidence below which a label is null; None takes the model's.
        full_decode: Whether JPEGs are decoded at full size even where half of it or less would do.

    Raises:
        ModelContractError: There is no such model.
    """

    def __init__(
        self,
        model: str | Path | bytes = DEFAULT_MODEL,
        *,
        threads: int = 1,
        providers: Sequence[str] | None = None,
        topk: int = 5,
        threshold: float | None = None,
        full_decode: bool = False,
    ) -> None:
        self.model = model if isinstance(model, bytes) else find_model(model).read_bytes()
        self.threads, self.providers, self.topk = threads, providers, topk
        self.threshold, self.full_decode = threshold, full_decode
        self._classifier: Classifier | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Return what travels: the model's bytes, and no open session."""
        return {**self.__dict__, "_classifier": None}

    def __call__(self, batch: Mapping[str, Any]) -> Any:  # noqa: ANN401  (pyarrow may be missing)
        """Return the records of a batch, one row for each of its rows.

        Args:
            batch: Column ``bytes`` of encoded pictures or ``image`` of uint8 arrays, (H, W) grey or (H, W, 3) RGB;
                where there is one, ``path`` or ``source`` names each picture; all other columns are kept.

        Returns:
            A ``pyarrow.Table`` with the columns of records, ``error`` in place of the others where a picture cannot
            be read, and the kept columns behind them.

        Raises:
            ValueError: The batch has neither ``bytes`` nor ``image``.
        """
        column = next((name for name in ("bytes", "image") if name in batch), None)
        if column is None:
            raise ValueError(f"a batch needs a column 'bytes' or 'image'; it has {', '.join(batch) or 'none'}")
        count = len(batch[column])
        named = next((batch[name] for name in ("source", "path") if name in batch), range(count))
        pictures = [(str(name), 0, picture) for name, picture in zip(named, batch[column], strict=True)]
        kept = {name: values for name, values in batch.items() if name not in (column, "source", "path")}
        return self.table(pictures, kept)

    def table(self, pictures: Sequence[tuple[str, int, Any]], kept: Mapping[str, Any] | None = None) -> Any:  # noqa: ANN401
        """Return the records of pictures as a ``pyarrow.Table``.

        Args:
            pictures: Source, number in it, and bytes or array of each; an exception says why there is none.
            kept: Further columns.
        """
        classifier = self._open()
        source = _Pictures(pictures, classifier.manifest.preprocess, self.full_decode)
        return table_of(classify(source, classifier, threshold=self.threshold), kept or {})

    def _open(self) -> Classifier:
        if self._classifier is None:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "model.onnx"
                path.write_bytes(self.model)
                self._classifier = Classifier(
                    path, threads=self.threads, providers=self.providers, topk=self.topk, spin=False
                )
        return self._classifier


class _Pictures(Source):
    """Pictures in memory, decoded one after the other."""

    def __init__(self, pictures: Sequence[tuple[str, int, Any]], spec: PreprocessSpec, full_decode: bool) -> None:
        self._pictures, self._spec, self._full_decode = pictures, spec, full_decode

    def ready(self, timeout: float) -> bool:
        return True

    def __iter__(self) -> Iterator[Frame]:
        for source, index, picture in self._pictures:
            try:
                image, size = self._decoded(picture, row_name(source, index))
            except ImageReadError as error:
                yield Frame(source, index, None, None, str(error))
            else:
                yield Frame(source, index, None, image, size=size)

    def _decoded(self, picture: Any, name: str) -> tuple[Image, tuple[int, int]]:  # noqa: ANN401  (of a stranger)
        if isinstance(picture, ImageReadError):
            raise picture
        if isinstance(picture, np.ndarray):
            if picture.dtype != np.uint8 or not (
                picture.ndim == 2 or (picture.ndim == 3 and picture.shape[2] in (1, 3))
            ):
                raise ImageReadError(f"{name}: is an array of {picture.dtype} {picture.shape}, not uint8 (H, W, 3)")
            return picture, (picture.shape[0], picture.shape[1])
        if not isinstance(picture, (bytes, bytearray, memoryview)):
            raise ImageReadError(f"{name}: holds no picture, but {type(picture).__name__}")
        decoded = decode_reduced(bytes(picture), name, self._reduction, grey=self._grey)
        return decoded.image, decoded.size

    @property
    def _grey(self) -> bool:
        return self._spec.channels == 1 and not self._full_decode

    def _reduction(self, height: int, width: int) -> int:
        return 1 if self._full_decode else largest_reduction(height, width, self._spec)
