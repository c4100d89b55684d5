"""Damaged files by the thousand: seeds of every kind, and what bad memory cards and bad people do to them."""

import json
import random
import re
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import onnx
from numpy.typing import NDArray

from stn_runtime.model.manifest import METADATA_KEY
from tests.support.tiny_model import make_graph, make_manifest

ZOO = Path(__file__).parents[2] / "models" / "stn_zoo"
PNG_MARK = b"\x89PNG\r\n\x1a\n"
_MODEL_MARK = b"\x08"  # the field ir_version
_EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 10_000, 20_000)


def picture_seeds() -> dict[str, list[bytes]]:
    """Return small whole files by kind, each in colour and grey where it has both."""
    generator = np.random.default_rng(0)
    coarse = generator.integers(0, 256, (6, 8, 3), np.uint8)
    smooth = np.asarray(cv2.resize(coarse, (61, 43), interpolation=cv2.INTER_CUBIC), np.uint8)
    colour = np.clip(smooth + generator.normal(0, 4, smooth.shape), 0, 255).astype(np.uint8)
    flat = np.full((2000, 2500, 3), 80, np.uint8)  # few bytes of many pixels
    grey, deep = colour[:, :, 0], colour.astype(np.uint16) * 257
    alpha = np.dstack([colour, grey])

    def files(suffix: str, *pictures: NDArray[np.generic], options: tuple[int, ...] = ()) -> list[bytes]:
        return [cv2.imencode(suffix, picture, options)[1].tobytes() for picture in pictures]

    seeds = {
        "JPEG": files(".jpg", colour, grey, flat, options=(cv2.IMWRITE_JPEG_RST_INTERVAL, 2)),
        "progressive JPEG": files(".jpg", colour, grey, flat, options=(cv2.IMWRITE_JPEG_PROGRESSIVE, 1)),
        "PNG": files(".png", colour, grey, alpha, flat, deep, np.dstack([deep, deep[:, :, :1]])),
        "animated PNG": [_animated(file) for file in files(".png", colour, alpha)],
        "lossy WebP": files(".webp", colour, alpha, flat, options=(cv2.IMWRITE_WEBP_QUALITY, 60)),
        "lossless WebP": files(".webp", colour, alpha, flat, options=(cv2.IMWRITE_WEBP_QUALITY, 101)),
        "TIFF": [
            file
            for compression in (1, 5, 8, 32773)  # none, LZW, Deflate, PackBits
            for file in files(
                ".tiff", colour, grey, alpha, deep, flat, options=(cv2.IMWRITE_TIFF_COMPRESSION, compression)
            )
        ],
        "BMP": files(".bmp", colour, grey, alpha),
        "JPEG 2000": files(".jp2", colour, grey, deep, flat),
        "PNM": [
            *files(".ppm", colour, deep),
            *files(".pgm", grey),
            *files(".pgm", grey, options=(cv2.IMWRITE_PXM_BINARY, 0)),
        ],
    }
    return seeds | {"GIF": files(".gif", colour, flat)} if cv2.haveImageWriter("x.gif") else seeds


def model_seeds() -> dict[str, list[bytes]]:
    """Return released models and tiny ones."""
    tiny = []
    for channels in (1, 3):
        model = make_graph(channels)
        entry = model.metadata_props.add()
        entry.key, entry.value = METADATA_KEY, make_manifest(channels).to_json()
        tiny.append(model.SerializeToString())
    return {"tiny": tiny} | {path.stem: [path.read_bytes()] for path in sorted(ZOO.glob("digits*.onnx"))}


def damaged(seeds: dict[str, list[bytes]], seed: int, index: int) -> tuple[str, bytes]:
    """Return damaged file number ``index``, always the same one, and its kind; one in fifty is left whole."""
    draw = random.Random(f"{seed} {index}")
    kind = list(seeds)[index % len(seeds)]
    data = draw.choice(seeds[kind])
    if draw.random() < 0.02:
        return kind, data
    if data.startswith(_MODEL_MARK) and draw.random() < 0.7:
        return kind, _edited(data, draw)
    other = draw.choice(draw.choice(list(seeds.values())))
    for _ in range(draw.choice((1, 1, 1, 2, 3, 8))):
        data = draw.choice(_MUTATIONS)(data, other, draw) if data else data
    if data.startswith(PNG_MARK) and draw.random() < 0.7:
        data = _with_sums(data)
    return kind, data


def _edited(data: bytes, draw: random.Random) -> bytes:
    """A model that is still a model file, with a graph or a manifest that does not fit."""
    model = onnx.load_from_string(data)
    for _ in range(draw.choice((1, 1, 2, 4))):
        draw.choice((_edit_node, _edit_node, _edit_constant, _edit_constant, _edit_border, _edit_metadata))(model, draw)
    return model.SerializeToString()


def _edit_node(model: onnx.ModelProto, draw: random.Random) -> None:
    nodes = model.graph.node
    at = draw.randrange(len(nodes))
    names = [name for node in nodes for name in (*node.input, *node.output)]
    what = draw.randrange(5)
    if what == 0:
        del nodes[at]
    elif what == 1 and nodes[at].input:
        nodes[at].input[draw.randrange(len(nodes[at].input))] = draw.choice(names)
    elif what == 2:
        nodes[at].op_type = draw.choice([node.op_type for node in nodes])
    elif what == 3 and nodes[at].attribute:
        entry = draw.choice(nodes[at].attribute)
        entry.i = draw.choice((-1, 0, 3, 1 << 31, -(1 << 62)))
        entry.ints[:] = [draw.choice((-1, 0, 1, 7, 1 << 40)) for _ in entry.ints]
    else:
        model.opset_import[0].version = draw.choice((0, 1, 11, 15, 20, 99))


def _edit_constant(model: onnx.ModelProto, draw: random.Random) -> None:
    """Shapes, axes, bounds and scales are small constants."""
    small = [entry for entry in model.graph.initializer if 0 < len(entry.raw_data) <= 128]
    if not small:
        return
    entry = draw.choice(small)
    if draw.random() < 0.3:
        entry.dims[:] = [draw.choice((0, 1, 2, 100, 1 << 40)) for _ in range(draw.randrange(4))]
        return
    width = 8 if entry.data_type == onnx.TensorProto.INT64 else 4
    at = draw.randrange(0, len(entry.raw_data), width)
    value = draw.choice((-1, 0, 1, 2, 5, 1000, 1 << 30)).to_bytes(width, "little", signed=True)
    entry.raw_data = entry.raw_data[:at] + value + entry.raw_data[at + width :]


def _edit_border(model: onnx.ModelProto, draw: random.Random) -> None:
    entry = draw.choice([*model.graph.input, *model.graph.output])
    dims = entry.type.tensor_type.shape.dim
    if not dims or draw.random() < 0.2:
        del dims[:]
    elif draw.random() < 0.3:
        draw.choice(dims).dim_param = "unknown"
    else:
        draw.choice(dims).dim_value = draw.choice((0, 1, 2, 28, 1 << 40))


def _edit_metadata(model: onnx.ModelProto, draw: random.Random) -> None:
    """Another value somewhere in the manifest, or a field less."""
    entry = draw.choice(model.metadata_props)
    try:
        place = whole = json.loads(entry.value)
    except ValueError:  # the classifier graph of the split form
        at = draw.randrange(len(entry.value))
        entry.value = entry.value[:at] + draw.choice(("", "A", "====")) + entry.value[at + draw.choice((0, 1, 500)) :]
        return
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = draw.choice(keys)
        if not (isinstance(place[key], (dict, list)) and place[key]) or draw.random() < 0.1:
            break
        place = place[key]
    if draw.random() < 0.2:
        del place[key]
    else:
        values = (
            None,
            True,
            -1,
            0,
            1,
            7,
            1 << 70,
            1e308,
            float("nan"),
            "",
            "a\nb",
            "\udce9",
            [],
            {},
            [0, 1],
            "x" * 5000,
        )
        place[key] = draw.choice(values)
    entry.value = json.dumps(whole)


def _place(data: bytes, draw: random.Random) -> int:
    """Where it hurts: the head, a marker or chunk's name, or anywhere."""
    choice = draw.random()
    if choice < 0.4:
        return draw.randrange(min(len(data), 256))
    if choice < 0.5:
        return max(0, len(data) - 1 - draw.randrange(min(len(data), 256)))
    return draw.randrange(len(data))


def _flip(data: bytes, other: bytes, draw: random.Random) -> bytes:
    flipped = bytearray(data)
    for _ in range(draw.choice((1, 1, 4, 64))):
        flipped[_place(data, draw)] ^= 1 << draw.randrange(8)
    return bytes(flipped)


def _cut(data: bytes, other: bytes, draw: random.Random) -> bytes:
    return data[: _place(data, draw)]


def _zero_the_rest(data: bytes, other: bytes, draw: random.Random) -> bytes:
    kept = data[: _place(data, draw)]
    return kept + bytes(len(data) - len(kept))


def _leave_out(data: bytes, other: bytes, draw: random.Random) -> bytes:
    at = _place(data, draw)
    return data[:at] + data[at + draw.choice((1, 2, 8, 100, 1000)) :]


def _repeat(data: bytes, other: bytes, draw: random.Random) -> bytes:
    at, size = _place(data, draw), draw.choice((1, 4, 16, 200, 2000))
    return data[: at + size] + data[at : at + size] * draw.choice((1, 1, 10, 300)) + data[at + size :]


def _insert(data: bytes, other: bytes, draw: random.Random) -> bytes:
    at = _place(data, draw)
    return data[:at] + draw.randbytes(draw.choice((1, 4, 50, 3000))) + data[at:]


def _extreme(data: bytes, other: bytes, draw: random.Random) -> bytes:
    at, form = _place(data, draw), draw.choice(("B", "<H", ">H", "<I", ">I", ">I"))
    value = draw.choice(_EXTREMES) & ((1 << 8 * struct.calcsize(form)) - 1)
    return (data[:at] + struct.pack(form, value) + data[at + struct.calcsize(form) :])[: len(data)]


def _number(data: bytes, other: bytes, draw: random.Random) -> bytes:
    """Another number where one is spelled out; in a model file that is the manifest."""
    found = list(re.finditer(rb"\d+", data[: 1 << 16])) + list(re.finditer(rb"\d+", data[-(1 << 16) :]))
    if not found:
        return data
    place = draw.choice(found)
    return data[: place.start()] + draw.choice((b"0", b"9", b"7")) * len(place[0]) + data[place.end() :]


def _splice(data: bytes, other: bytes, draw: random.Random) -> bytes:
    return data[: _place(data, draw)] + other[draw.randrange(len(other)) :]


_MUTATIONS: tuple[Callable[[bytes, bytes, random.Random], bytes], ...] = (
    _flip,
    _cut,
    _zero_the_rest,
    _leave_out,
    _repeat,
    _insert,
    _extreme,
    _extreme,
    _extreme,
    _number,
    _splice,
)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _animated(png: bytes) -> bytes:
    """An animation of the same picture twice."""
    height, width = 43, 61
    frame = struct.pack(">IIIIHHBB", width, height, 0, 0, 1, 10, 0, 0)
    at, end = png.index(b"IDAT") - 4, png.index(b"IEND") - 4
    picture = b"".join(
        png[start + 8 : start + 8 + length] for start, length in ((at, int.from_bytes(png[at : at + 4], "big")),)
    )
    control = _chunk(b"acTL", struct.pack(">II", 2, 0)) + _chunk(b"fcTL", struct.pack(">I", 0) + frame)
    second = _chunk(b"fcTL", struct.pack(">I", 1) + frame) + _chunk(b"fdAT", struct.pack(">I", 2) + picture)
    return png[:at] + control + png[at:end] + second + png[end:]


def _with_sums(png: bytes) -> bytes:
    """The chunks of a damaged PNG with their check sums made right, so that the damage reaches further."""
    mended, at = bytearray(png), 8
    while at + 12 <= len(png):
        end = at + 8 + int.from_bytes(png[at : at + 4], "big")
        if end + 4 > len(png):
            break
        mended[end : end + 4] = struct.pack(">I", zlib.crc32(png[at + 4 : end]))
        at = end + 4
    return bytes(mended)
