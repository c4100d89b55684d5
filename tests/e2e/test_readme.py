"""The Python of README.md does what the page says."""

import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.support.moving_digits import serve

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "models" / "stn_zoo" / "samples" / "3_chalk_tilted.jpg"


class Enough(Exception):
    """Ends the endless loop of the page."""


def _python_blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)


def test_the_camera_loop_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loop = next(block for block in _python_blocks() if "open_source(" in block)
    assert loop.count("\n") <= 11
    picture = cv2.resize(cv2.imread(str(SAMPLE)), (320, 240))
    random = np.random.default_rng(0)
    noisy = [cv2.add(picture, random.integers(0, 4, picture.shape, np.uint8)) for _ in range(40)]
    server = serve(noisy)  # a camera that closes after its last picture
    monkeypatch.chdir(tmp_path)
    printed: list[tuple[object, ...]] = []

    def collect(*values: object) -> None:
        printed.append(values)
        if len(values) == 2 and values[1] == "source_lost":
            raise Enough

    try:
        with pytest.raises(Enough):
            exec(loop.replace('"0"', f'"http://127.0.0.1:{server.server_port}/"'), {"print": collect})
    finally:
        server.shutdown()
        server.server_close()
    labels = [values[0] for values in printed[:-1]]
    assert labels
    assert set(labels) == {"3"}
    records = Path("labels.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(records) >= len(printed)
    assert '"source_lost"' in records[-1]


def test_the_transformer_of_the_readme_is_inserted() -> None:
    block = next(block for block in _python_blocks() if "insert_spatial_transformer(" in block)
    names: dict[str, object] = {}
    exec(block, names)
    assert type(names["network"].conv1).__name__ != "Conv2d"  # type: ignore[attr-defined]
