"""Proof by parts: theta, sampling grid, sampled image and outputs of a graph, each made of the original's own values.

Rounding grows in some networks: behind several transformers in series, or where a nearly constant channel is
normalised, changing the input by one unit in the last place changes the output by a thousand times as much. End to end,
a correct graph and a slightly wrong one are then alike. So each part of the graph gets what the original computed at
that place, and must answer as the original's part does: within a tight tolerance, or within what the rounding of that
part alone explains (``rounding.py``).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from .differences import differences_of_points, relative_difference, relative_differences
from .evaluation import Array, Evaluation, Sampling, grid_for, points_on_edges
from .graph_cuts import Cut, CutGraph, CutSampler, Parts, inlined
from .rounding import Differences, DisturbedRuns, Noise, PartDifference, judge, tolerance_of, unit_of, worse

_STAGES = ("image to sample", "theta", "sampling grid", "sampled image", "output behind the samplers")
"""In the order of the data."""

_UNITS_OF_POINTS = 16  # tolerance of sampling points, in units in the last place of 1, an edge of the picture
_ALIKE = 1e-3  # relative difference of two tensors that may be the same theta
_AS_ALIKE = 1e-5  # of grid and result together, where two samplers of the original are as alike to one of the graph
_FARTHER, _ASIDE = 1.6, 0.13  # a second grid for each sampler leaves the picture


@dataclass(frozen=True)
class _Stage:
    """A sampler of the graph, and what of the original belongs to it.

    Attributes:
        cut: The sampler's tensors in the graph; its theta is None where the original has no such tensor.
        sampling: Number of the same sampler among the original's, in order of use.
        thetas: Numbers of the original's operators that return the same theta, the first of which computes it.
        theta_sizes: Sizes of theta in the graph, without the batch.
    """

    cut: Cut
    sampling: int
    thetas: tuple[int, ...] = ()
    theta_sizes: tuple[int, ...] = ()

    def theta_of(self, evaluation: Evaluation) -> Array:
        """Return the original's theta in the graph's shape."""
        return evaluation.small[self.thetas[0]].reshape(-1, *self.theta_sizes)


class PartProof:
    """A graph cut at its samplers, to be held against the original part by part.

    Args:
        model: The graph.
        cuts: Its samplers, see ``find_cuts``; those that the original does not have are no cuts.
        runs: The original on some inputs; it tells which sampler of the graph is which of the original's.

    Raises:
        ModelContractError: A part cannot be loaded by onnxruntime.
        ValueError: A sampler cannot be cut out.
    """

    def __init__(self, model: onnx.ModelProto, cuts: Sequence[Cut], runs: DisturbedRuns) -> None:
        model = inlined(model)
        self._stages = _with_thetas(model, _paired(model, cuts, runs), runs)
        thetas = [stage.cut.theta for stage in self._stages if stage.cut.theta is not None]
        sampled = [stage.cut.sampled for stage in self._stages]
        inputs = {value.name for value in model.graph.input}
        images = [stage.cut.image for stage in self._stages if stage.cut.image not in {*sampled, *inputs}]
        grids = [stage.cut.grid for stage in self._stages]
        self._graph = CutGraph(model, [*sampled, *thetas, *images], [*thetas, *images, *grids])
        self._output_names = [output.name for output in model.graph.output]
        self._samplers = [CutSampler(model, stage.cut) for stage in self._stages]
        operators = {number for stage in self._stages for number in stage.thetas}
        operators |= {runs.evaluation.samplings[stage.sampling].image_operator for stage in self._stages}
        self._held = sorted(operators - {-1})

    def compare(self, runs: DisturbedRuns) -> list[PartDifference]:
        """Return how far each part is from the original's, in the order of the data."""
        fed: dict[str, Array] = {}
        for stage in self._stages:
            fed[stage.cut.image] = runs.evaluation.samplings[stage.sampling].image
        for stage in self._stages:
            fed[stage.cut.sampled] = runs.evaluation.samplings[stage.sampling].sampled
            if stage.cut.theta is not None:
                fed[stage.cut.theta] = stage.theta_of(runs.evaluation)
        results: dict[tuple[str, str], PartDifference] = {}
        for result in self._results(runs, fed):
            key = result.stage, result.name
            results[key] = worse(results.get(key), result)
        return sorted(results.values(), key=lambda result: _STAGES.index(result.stage))

    def _results(self, runs: DisturbedRuns, fed: Mapping[str, Array]) -> Iterator[PartDifference]:
        for parts in self._graph.run(runs.inputs, fed):
            for stage in self._stages:
                yield from self._about_sampler(stage, runs, parts)
            yield from self._about_outputs(runs, parts)
        for stage, sampler in zip(self._stages, self._samplers, strict=True):
            yield from _sampler_differences(stage, sampler, runs)

    def _about_sampler(self, stage: _Stage, runs: DisturbedRuns, parts: Parts) -> Iterator[PartDifference]:
        """Yield how far theta, grid and image of a sampler are from the original's."""
        cut, expected = stage.cut, runs.evaluation.samplings[stage.sampling]

        def rounded(seed: int) -> Sampling:
            return runs.by_parts(seed, self._held).samplings[stage.sampling]

        if cut.theta in parts.shown:
            theta, actual = stage.theta_of(runs.evaluation), parts.shown[str(cut.theta)]
            yield judge(
                "theta",
                str(cut.theta),
                relative_differences(theta, actual),
                tolerance_of(theta),
                lambda seed: relative_differences(theta, stage.theta_of(runs.by_parts(seed, self._held))),
            )
        if cut.grid in parts.shown:
            points = points_on_edges(expected.grid, expected.image, expected.modes)
            yield judge(
                "sampling grid",
                cut.grid,
                differences_of_points(points, points_on_edges(parts.shown[cut.grid], expected.image, cut.modes)),
                _UNITS_OF_POINTS * unit_of(points),
                lambda seed: differences_of_points(
                    points, points_on_edges(rounded(seed).grid, expected.image, expected.modes)
                ),
            )
        if cut.image in parts.shown:
            yield judge(
                "image to sample",
                cut.image,
                relative_differences(expected.image, parts.shown[cut.image]),
                tolerance_of(expected.image),
                lambda seed: relative_differences(expected.image, rounded(seed).image),
            )

    def _about_outputs(self, runs: DisturbedRuns, parts: Parts) -> Iterator[PartDifference]:
        """Yield how far the outputs are from the original's, made of the original's sampled images and thetas."""
        for index, name in enumerate(self._output_names):
            if name in parts.outputs:
                expected = runs.evaluation.outputs[index]
                yield judge(
                    "output behind the samplers",
                    name,
                    relative_differences(expected, parts.outputs[name]),
                    tolerance_of(expected),
                    self._output_noise(runs, index),
                )

    def _output_noise(self, runs: DisturbedRuns, index: int) -> Noise:
        expected = runs.evaluation.outputs[index]
        return lambda seed: relative_differences(expected, runs.by_parts(seed, self._held).outputs[index])


def _sampler_differences(stage: _Stage, sampler: CutSampler, runs: DisturbedRuns) -> Iterator[PartDifference]:
    """Yield how far a sampler alone is from the original's, on its own grid and on one that leaves the picture."""
    sampling = runs.evaluation.samplings[stage.sampling]
    image, modes, cut = sampling.image, sampling.modes, stage.cut
    farther = (sampling.grid * _FARTHER + _ASIDE).astype(sampling.grid.dtype)
    grids = {"own": (sampling.grid, sampling.sampled)}
    if modes.interpolation == "bilinear":  # bicubic of onnxruntime is another one outside (onnxruntime#10607)
        grids["farther"] = (farther, runs.original.sample(image, farther, modes))
    for grid, expected in grids.values():
        fed = grid if cut.modes == modes else grid_for(points_on_edges(grid, image, modes), image, cut.modes)
        for actual in sampler.run(image, np.ascontiguousarray(fed.astype(grid.dtype))):
            yield judge(
                "sampled image",
                cut.sampled,
                relative_differences(expected, actual),
                tolerance_of(expected),
                _sampler_noise(runs, sampling, grid, expected),
            )


def _sampler_noise(runs: DisturbedRuns, sampling: Sampling, grid: Array, expected: Array) -> Noise:
    """Return how far the original's sampler moves when image and grid are moved by a unit in the last place.

    A sampler adds 1 to a coordinate, so the unit of a coordinate is that of 1 at least.
    """

    def noise(seed: int) -> Differences:
        random = np.random.default_rng(seed)
        image = sampling.image * (1 + unit_of(sampling.image) * random.uniform(-1, 1, sampling.image.shape))
        moved = np.maximum(np.abs(grid), 1) * unit_of(grid) * random.uniform(-1, 1, grid.shape)
        disturbed = image.astype(sampling.image.dtype), (grid + moved).astype(grid.dtype)
        return relative_differences(expected, runs.original.sample(*disturbed, sampling.modes))

    return noise


def _paired(model: onnx.ModelProto, cuts: Sequence[Cut], runs: DisturbedRuns) -> list[_Stage]:
    """Return which sampler of the original each of the graph's is: the one whose grid and result are most alike.

    Of several that are equally alike, as samplers with the same grid and other padding may be, it is the one at the
    same place in the order of use, else one that reads in the same way.
    """
    if not cuts:
        return []
    names = [name for cut in cuts for name in (cut.image, cut.grid, cut.sampled)]
    parts = next(CutGraph(model, [], names).run(runs.inputs, {}))
    given = dict(zip((value.name for value in model.graph.input), runs.inputs, strict=False))
    values = {**given, **parts.outputs, **parts.shown}
    stages = []
    for place, cut in enumerate(cuts):
        image, grid, sampled = (values.get(name) for name in (cut.image, cut.grid, cut.sampled))
        if image is None or grid is None or sampled is None:
            continue
        points = points_on_edges(grid, image, cut.modes)

        def distance(sampling: Sampling, points: Array = points, sampled: Array = sampled) -> float:
            theirs = points_on_edges(sampling.grid, sampling.image, sampling.modes)
            return relative_difference(theirs, points) + relative_difference(sampling.sampled, sampled)

        samplings = runs.evaluation.samplings
        distances = [
            distance(sampling) if sampling.image.shape == image.shape else float("inf") for sampling in samplings
        ]
        if distances and np.isfinite(min(distances)):
            alike = [number for number, apart in enumerate(distances) if apart <= min(distances) + _AS_ALIKE]
            chosen = min(alike, key=lambda number: (number != place, samplings[number].modes != cut.modes))
            stages.append(_Stage(cut, chosen))
    return stages


def _with_thetas(model: onnx.ModelProto, stages: Sequence[_Stage], runs: DisturbedRuns) -> list[_Stage]:
    """Return the stages with the operators of the original that return the same theta as the graph."""
    thetas = [stage.cut.theta for stage in stages if stage.cut.theta is not None]
    sampled = {stage.cut.sampled: runs.evaluation.samplings[stage.sampling].sampled for stage in stages}
    if not stages:
        return []
    values = next(CutGraph(model, list(sampled), thetas).run(runs.inputs, sampled)).shown
    completed = []
    for stage in stages:
        cut, theta = stage.cut, values.get(stage.cut.theta or "")
        numbers = () if theta is None else _same(theta, runs.evaluation.small)
        if theta is None or not numbers:
            cut = Cut(cut.image, cut.grid, cut.sampled, None, cut.modes)
            completed.append(_Stage(cut, stage.sampling))
        else:
            completed.append(_Stage(cut, stage.sampling, numbers, theta.shape[1:]))
    return completed


def _same(theta: Array, small: Mapping[int, Array]) -> tuple[int, ...]:
    """Return the numbers of the small tensors that hold a theta, whatever their shape."""
    flat = {number: values.ravel() for number, values in small.items() if values.size == theta.size}
    apart = {number: relative_difference(values, theta.ravel()) for number, values in flat.items()}
    nearest = min(apart, key=lambda number: apart[number], default=None)
    if nearest is None or not apart[nearest] <= _ALIKE:
        return ()
    return tuple(sorted(number for number in flat if np.array_equal(flat[number], flat[nearest])))
