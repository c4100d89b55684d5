"""A report as one HTML page that needs no network: figures and pictures are inside it."""

import base64
import tempfile
from collections.abc import Sequence
from html import escape
from importlib import metadata
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from stn_models.registry import REGISTRY
from stn_runtime.errors import printable

from ..data.data_module import to_float
from ..evaluation.activation_maps import map_tiles
from ..evaluation.sweep import save_sweep
from ..evaluation.thetas import QUANTITIES, rows, save_thetas
from ..pictures import before_after_tiles, save_confusion, tiles_of
from .advice import advice, counted
from .figures import save_curves, save_recalls
from .measurement import Findings, Mistake

_MISTAKES_SHOWN, _SAMPLES_SHOWN, _TWINS_SHOWN = 24, 10, 6
_LONGEST_NAME = 60
_PARTS = ("picture", "what the classifier sees", "what speaks for the answer")
_OUTPUTS = {"rectified": "rectified (levels of 255)"}

_STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 68rem; padding: 1rem 1.2rem 4rem; color: #1b1f24; background: #fff;
       font: 16px/1.5 system-ui, "Segoe UI", Roboto, "Liberation Sans", sans-serif; }
h1 { font-size: 1.6rem; margin: 0.6rem 0 0.2rem; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.4rem 0 0.6rem; padding-top: 0.6rem; border-top: 1px solid #d8dee4; }
p { margin: 0.4rem 0; max-width: 46rem; }
p.small, figcaption, td.small { color: #57606a; font-size: 0.85rem; }
img.figure { max-width: 100%; height: auto; display: block; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(13rem, 1fr)); gap: 0.7rem; margin: 1rem 0; }
.tile { background: #f4f6f8; border-radius: 6px; padding: 0.7rem 0.9rem; }
.tile b { display: block; font-size: 1.5rem; line-height: 1.3; }
.tile span { color: #57606a; font-size: 0.85rem; }
.pictures { display: flex; flex-wrap: wrap; gap: 0.9rem; }
.pictures figure { margin: 0; width: 15.4rem; max-width: 100%; overflow-wrap: anywhere; }
.pictures img { width: 7rem; height: 7rem; max-width: 48%; margin-right: 0.3rem; }
.pictures.three figure { width: 16.2rem; } .pictures.three img { width: 5rem; height: 5rem; max-width: 31%; }
.scroll { overflow-x: auto; }
img.wide { min-width: 46rem; }
dl { display: grid; grid-template-columns: fit-content(45%) 1fr; gap: 0.25rem 1.2rem; font-size: 0.9rem; }
dt { color: #57606a; max-width: 24rem; } dd { margin: 0; overflow-wrap: anywhere; }
table { border-collapse: collapse; font-size: 0.9rem; margin: 0.6rem 0 1rem; }
th, td { text-align: right; padding: 0.2rem 0.7rem; border-bottom: 1px solid #e7ebef; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
ol { max-width: 46rem; padding-left: 1.3rem; } li { margin: 0.4rem 0; overflow-wrap: anywhere; }
nav a { margin-right: 0.9rem; } a { color: #0a58ca; }
code { background: #f4f6f8; padding: 0 0.25rem; border-radius: 3px; overflow-wrap: anywhere; }
"""


def page(findings: Findings) -> str:
    """Return the report as HTML."""
    with tempfile.TemporaryDirectory() as scratch:
        sections = [
            ("next", "What to do next", _next(findings)),
            ("training", "Training", _training(findings, Path(scratch))),
            ("classes", "Classes and confusions", _classes(findings, Path(scratch))),
            ("mistakes", "Worst mistakes", _mistakes(findings)),
            ("transformer", "What the transformer does", _transformer(findings, Path(scratch))),
            ("robustness", "Robustness", _robustness(findings, Path(scratch))),
            ("file", "The exported file", _file(findings)),
            ("data", "Data and settings", _data(findings)),
        ]
    title = f"{_text(findings.run.config.model)} on {_text(Path(findings.run.config.data).name)}"
    links = "".join(f'<a href="#{key}">{_text(name)}</a>' for key, name, _ in sections)
    body = "".join(f'<section id="{key}"><h2>{_text(name)}</h2>{content}</section>' for key, name, content in sections)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{_STYLE}</style></head><body><h1>{title}</h1>{_summary(findings)}"
        f"<nav>{links}</nav>{body}</body></html>\n"
    )


def _summary(findings: Findings) -> str:
    report, (low, high) = findings.report, findings.interval
    tiles = [
        (
            f"{report.accuracy:.2%}",
            f"right of {len(report.predicted)} {findings.split} pictures; {low:.1%} to {high:.1%}",
        )
    ]
    if findings.identity is not None:
        tiles.append((f"{findings.identity.accuracy:.2%}", "with the transformer held at the identity"))
    fastest = findings.ablations[-1]
    where = "in onnxruntime" if findings.exported else "in PyTorch"
    threads = f"{findings.threads} thread{'s' * (findings.threads > 1)}"
    tiles.append((f"{fastest.milliseconds:.2f} ms", f"a picture {where}, here on {threads}"))
    size = findings.exported.size if findings.exported else findings.run.checkpoint.stat().st_size
    tiles.append((_megabytes(size), "the exported file" if findings.exported else "the checkpoint"))
    inner = "".join(f'<div class="tile"><b>{value}</b><span>{_text(what)}</span></div>' for value, what in tiles)
    return f'<div class="tiles">{inner}</div>'


def _next(findings: Findings) -> str:
    return f"<ol>{''.join(f'<li>{_text(sentence, 600)}</li>' for sentence in advice(findings))}</ol>"


def _training(findings: Findings, scratch: Path) -> str:
    path = scratch / "curves.png"
    save_curves(findings.run, path)
    run, config = findings.run, findings.run.config
    done = len(next(iter(run.epochs.values())))
    whole = f" of {config.epochs}" if done < config.epochs else ""
    harder = " Training pictures change in every epoch, so that their curve may lie below."
    return (
        f"<p>{counted(done, 'epoch')}{whole} on {counted(sum(findings.counts.values()), 'picture')}; kept are the "
        f"weights of epoch {run.best}, the best on validation pictures."
        f"{harder if config.augment or config.distort or config.mixup else ''}</p>"
        f"{_figure(path, 'Loss and accuracy over the epochs', wide=True)}"
    )


def _classes(findings: Findings, scratch: Path) -> str:
    save_recalls(findings, scratch / "recalls.png")
    save_confusion(findings.report.confusion, findings.report.classes, scratch)
    wrong = findings.report.confusion - np.diag(np.diag(findings.report.confusion))
    order = np.argsort(-wrong, axis=None, kind="stable")[:8]
    names = findings.report.classes
    pairs = [np.unravel_index(place, wrong.shape) for place in order]
    cells = [(names[row], names[column], str(wrong[row, column])) for row, column in pairs if wrong[row, column]]
    confusions = _table(("true", "taken for", "pictures"), cells) if cells else "<p>No picture is confused.</p>"
    return (
        f"{confusions}{_figure(scratch / 'recalls.png', 'Share of right answers of each class')}"
        f"{_figure(scratch / 'confusion.png', 'Confusion matrix: rows are true, columns predicted')}"
    )


def _mistakes(findings: Findings) -> str:
    if not findings.mistakes:
        return f"<p>None of the {len(findings.report.predicted)} pictures got a wrong answer.</p>"
    shown = findings.mistakes[:_MISTAKES_SHOWN]
    labels = findings.subject.labels
    answers = [labels.index(mistake.answer) for mistake in shown] if findings.data.end is None else []
    captions = [_caption(findings, mistake) for mistake in shown]
    columns = ["the picture"] + ["what the classifier sees of it"] * bool(findings.thetas)
    columns += ["what of that speaks for its answer (Grad-CAM)"] * bool(answers)
    confident = f"here the {len(shown)} most confident" if len(shown) < len(findings.mistakes) else "by confidence"
    return (
        f"<p>{counted(len(findings.mistakes), 'wrong answer')}, {confident}; a wrong label is often among them. From "
        f"left to right: {', '.join(columns)}.</p>"
        f"{_pictures(findings, [mistake.index for mistake in shown], captions, answers)}"
    )


def _transformer(findings: Findings, scratch: Path) -> str:
    if not findings.thetas:
        return "<p>The network has none.</p>"
    count = len(findings.data)
    chosen = sorted({int(place) for place in np.linspace(0, count - 1, min(_SAMPLES_SHOWN, count))})
    captions = [_text(findings.data.answer(findings.data.labels[index])) for index in chosen]
    save_thetas(findings.thetas, findings.data, scratch / "thetas.png")
    spread = [
        (
            row.transformer,
            row.quantity,
            *(f"{value:.3f}" for value in (row.percentile_5, row.median, row.percentile_95)),
        )
        for row in rows(findings.thetas, findings.data)
        if row.label == "all"
    ]
    header = ("model", "accuracy", "accuracy, theta at the identity", "ms a picture", "ms, theta at the identity")
    return (
        "<p>On the left the picture with the outline of what is sampled, on the right what the classifier sees.</p>"
        f"{_pictures(findings, chosen, captions)}<p>With theta held at the identity the same network samples the whole "
        "picture; what accuracy falls by is what the transformer is for.</p>"
        f"{_table(header, [row.cells() for row in findings.ablations])}<p>Quantities of theta over all pictures: "
        f"{', '.join(QUANTITIES)}.</p>{_table(('transformer', '', '5 %', 'median', '95 %'), spread)}"
        f"{_figure(scratch / 'thetas.png', 'Theta class by class', wide=True)}"
    )


def _robustness(findings: Findings, scratch: Path) -> str:
    save_sweep(findings.points, scratch / "sweep.png")
    held = any(point.accuracy_at_identity is not None for point in findings.points)
    dashed = " Dashed: theta held at the identity." if held else ""
    return (
        f"<p>Accuracy on pictures that are turned, scaled, shifted, sheared or noisy.{dashed}</p>"
        f"{_figure(scratch / 'sweep.png', 'Accuracy against what is done to the pictures', wide=True)}"
    )


def _file(findings: Findings) -> str:
    if findings.exported is None:
        command = f"stn export {findings.run.checkpoint} -o model.onnx"
        return f"<p>None was measured. Make one with <code>{_text(command, 400)}</code>.</p>"
    manifest, export = findings.exported.manifest, findings.exported.manifest.export
    verified = manifest.verification.get("real_pictures")
    facts = [
        ("file", findings.exported.path.name),
        ("size", _megabytes(findings.exported.size)),
        ("form, precision, opset", f"{export.form}, {export.precision}, {export.opset}"),
        ("which pictures get no label", manifest.label_rule() or "none"),
        *(
            (f"largest difference from PyTorch at the export, {_OUTPUTS.get(name, name)}", f"{value:.1e}")
            for name, value in manifest.parity.items()
        ),
        ("pictures of yours that the export compared", str(verified)),
        ("largest difference of a probability, measured now", f"{findings.exported.apart:.1e}"),
    ]
    fastest = findings.ablations[-1].milliseconds
    return (
        "<p>The export compared every output of the file with PyTorch's, and refuses to write one that differs.</p>"
        f"{_facts(facts)}<p>One picture takes {fastest:.2f} ms here, the median of single pictures, on "
        f"{counted(findings.threads, 'thread')}; on another machine: stn bench.</p>"
    )


def _data(findings: Findings) -> str:
    config, spec = findings.run.config, findings.subject.spec
    twins = [(twin.path, twin.label, twin.training_path, twin.training_label) for twin in findings.twins[:_TWINS_SHOWN]]
    similar = (
        f"<p>{counted(len(findings.twins), 'measured picture looks', 'measured pictures look')} like one of "
        f"training:</p>" + _table(("measured", "class", "training", "class"), twins)
        if twins
        else ""
    )
    parameters = (
        sum(value.numel() for value in findings.subject.network.parameters()) if findings.subject.network else 0
    )
    default = type(config)(config.data)
    changed = {
        name: value for name, value in vars(config).items() if value != getattr(default, name) and name != "data"
    }
    own = " (ours)" if config.model in REGISTRY else ""
    facts = [
        ("data", config.data),
        (
            "measured part",
            f"{findings.split}, {counted(len(findings.report.predicted), 'picture')}{_chosen_by(findings)}",
        ),
        ("network", f"{config.model}{own}, {parameters:,} parameters"),
        ("input", f"{spec.width} x {spec.height} x {spec.channels}, {spec.fit}"),
        *((name, str(value)) for name, value in changed.items() if name != "model"),
        ("folder of the run", str(findings.run.folder)),
        ("versions", ", ".join(f"{name} {metadata.version(name)}" for name in ("stn-edge", "torch", "onnxruntime"))),
    ]
    counts = [(name, str(count)) for name, count in findings.counts.items()]
    return (
        f"{similar}{_facts(facts)}<details><summary>training pictures by class</summary>"
        f"{_table(('class', 'pictures'), counts)}</details>"
    )


def _chosen_by(findings: Findings) -> str:
    return "; they also chose the epoch and the threshold, so their accuracy is a little high" * (
        findings.split == "val"
    )


def _caption(findings: Findings, mistake: Mistake) -> str:
    true = findings.data.answer(findings.data.labels[mistake.index])
    path = findings.data.paths[mistake.index] if findings.data.paths else ""
    name = f"<br>{_text(Path(path).name)}" if path else ""
    answer = _text(mistake.answer) or "nothing"
    return f"<b>{_text(true) or 'nothing'}</b>, taken for <b>{answer}</b>, {mistake.confidence:.0%}{name}"


def _pictures(findings: Findings, indices: Sequence[int], captions: Sequence[str], answers: Sequence[int] = ()) -> str:
    """Return pictures with their captions.

    Beside each stands what the classifier sees of it, where the network has a transformer, and where answers are given,
    what speaks for them.

    Args:
        findings: The findings.
        indices: Which pictures.
        captions: HTML below each.
        answers: Index of a label for each.
    """
    images = to_float(findings.data.images[torch.as_tensor(indices)])
    network = findings.subject.network
    pair = before_after_tiles(network, images) if network is not None else None
    columns = [*(pair if pair is not None else (tiles_of(images),))]
    maps = map_tiles(network, images, answers) if network is not None and answers else None
    columns += [maps] if maps is not None else []
    figures = (
        f"<figure>{''.join(map(_embedded, row, _PARTS))}<figcaption>{caption}</figcaption></figure>"
        for *row, caption in zip(*columns, captions, strict=True)
    )
    kind = "pictures three" if len(columns) == 3 else "pictures"
    return f'<div class="{kind}">{"".join(figures)}</div>'


def _embedded(tile: NDArray[np.uint8], description: str) -> str:
    _, data = cv2.imencode(".png", np.ascontiguousarray(tile[..., ::-1]))
    return f'<img alt="{_text(description)}" src="data:image/png;base64,{base64.b64encode(data.tobytes()).decode()}">'


def _figure(path: Path, description: str, wide: bool = False) -> str:
    """Return a figure as HTML; a wide one is not shrunk below what can be read, but scrolled."""
    data = base64.b64encode(path.read_bytes()).decode()
    kind = "figure wide" if wide else "figure"
    image = f'<img class="{kind}" alt="{_text(description)}" src="data:image/png;base64,{data}">'
    return f'<div class="scroll">{image}</div>'


def _facts(facts: Sequence[tuple[str, str]]) -> str:
    """Return names and values as a list that also fits a narrow page."""
    lines = "".join(f"<dt>{_text(name, 100)}</dt><dd>{_text(value, 300)}</dd>" for name, value in facts)
    return f"<dl>{lines}</dl>"


def _table(header: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    head = f"<tr>{''.join(f'<th>{_text(name)}</th>' for name in header)}</tr>" if any(header) else ""
    lines = "".join(f"<tr>{''.join(f'<td>{_text(cell, 300)}</td>' for cell in row)}</tr>" for row in cells)
    return f'<div class="scroll"><table>{head}{lines}</table></div>'


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.2f} MB"


def _text(text: str, most: int = _LONGEST_NAME) -> str:
    return escape(printable(text, most))
