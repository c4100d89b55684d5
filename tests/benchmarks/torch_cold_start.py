"""A process that labels one picture with PyTorch and torchvision: ``bench_cold_start`` starts it.

It reads the released weights, 'digits.safetensors', and prints JSON: milliseconds by part, its peak memory, the label.
"""

import json
import sys
import time
from itertools import pairwise
from pathlib import Path

from stn_runtime.bench.cold_start import peak_memory


def label(spawned: float, weights: Path, picture: Path) -> dict[str, object]:
    """Label a picture; ``spawned`` is when this process was started, seconds of ``time.monotonic``."""
    marks = [spawned, time.monotonic()]
    import torch
    import torchvision.transforms.functional as transforms
    from PIL import Image
    from safetensors import safe_open

    from stn_models.registry import Architecture

    marks.append(time.monotonic())
    with safe_open(weights, "pt") as stream:
        described = json.loads(stream.metadata()["stn_edge"])
        state = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118  (it is no mapping)
    network = Architecture(described["architecture"]["name"], described["architecture"]["options"]).build()
    network.load_state_dict(state)
    network.eval()
    marks.append(time.monotonic())
    spec = described["preprocess"]
    with Image.open(picture) as opened:
        grey = transforms.to_grayscale(opened)
    square = transforms.center_crop(grey, [min(grey.size)] * 2)
    pixels = transforms.to_tensor(transforms.resize(square, [spec["height"], spec["width"]]))
    with torch.inference_mode():
        best = int(network(pixels[None]).argmax())
    marks.append(time.monotonic())
    parts = [1000 * (end - begin) for begin, end in pairwise(marks)]
    return {"parts": parts, "memory": peak_memory(), "label": described["labels"][best]}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(label(float(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]))))
