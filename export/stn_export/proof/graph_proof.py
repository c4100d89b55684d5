"""A graph held against its original on several batches: part by part, then end to end."""

from collections.abc import Sequence

import onnx

from .by_parts import PartProof
from .evaluation import Array
from .graph_cuts import Cut
from .rounding import DisturbedRuns, PartDifference, half_difference, output_differences, worse


class GraphProof:
    """Collects the differences of a graph from its original, the worst of each tensor.

    Args:
        model: The graph.
        cuts: The graph's samplers, see ``find_cuts``; without, the graph is one part.
    """

    def __init__(self, model: onnx.ModelProto, cuts: Sequence[Cut]) -> None:
        self._model, self._cuts = model, tuple(cuts)
        self._parts: PartProof | None = None
        self._is_apart = True  # whether the graph runs part by part, so that rounding end to end hides nothing
        self._results: dict[tuple[str, str], PartDifference] = {}

    @property
    def results(self) -> list[PartDifference]:
        """The differences so far, in the order of the data."""
        return list(self._results.values())

    @property
    def refusal(self) -> str | None:
        """A part of a sentence that says where the graph is wrong first, and by how much; None where it is not."""
        return next((result.sentence() for result in self.results if not result.passed), None)

    def add_parts(self, runs: DisturbedRuns) -> None:
        """Compare each part of the graph with the original's on the same values."""
        if not self._cuts or not self._is_apart:
            return
        try:
            self._parts = self._parts or PartProof(self._model, self._cuts, runs)
            found = self._parts.compare(runs)
        except Exception:  # onnxruntime's exceptions share no base class but this one
            self._is_apart = False  # a part may not run alone; then nothing but the tight tolerance is allowed
            return
        self._add(found)

    def add_outputs(self, runs: DisturbedRuns, actual: Sequence[Array]) -> None:
        """Compare the graph's outputs for the same inputs with the original's; what rounding explains is allowed."""
        names = [output.name for output in self._model.graph.output]
        self._add(output_differences(runs, names, actual, explained=self._is_apart))

    def add_half_outputs(self, exact: Sequence[Array], expected: Sequence[Array], actual: Sequence[Array]) -> None:
        """Compare the outputs of a graph in float16 with the original's, see ``half_difference``."""
        names = [output.name for output in self._model.graph.output]
        self._add([half_difference(*each) for each in zip(names, exact, expected, actual, strict=True)])

    def largest(self, name: str) -> float:
        """Return the largest difference of an output from the original's, end to end."""
        return self._results["output", name].largest

    def _add(self, results: Sequence[PartDifference]) -> None:
        for result in results:
            key = result.stage, result.name
            self._results[key] = worse(self._results.get(key), result)
