"""How fast the page of a model is in Chromium, on one core, with a camera of 640 x 480.

    python -m tests.benchmarks.bench_page digits --minutes 10

Prints the seconds from opening the page to its proof and to the first label of a camera that is started at once, frames
a second, milliseconds by stage, and the memory of the page's process at the start and at the end.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from stn_export.web_page import write_page
from stn_runtime.model.zoo import find_model
from tests.support.browser import browser, numbered_frames, open_page, served, write_camera

if TYPE_CHECKING:
    from playwright.sync_api import Page

COUNT = "Number(document.getElementById('count').textContent)"


def resident(page: "Page") -> tuple[float, float]:
    """Return the megabytes of the page's process and of its JavaScript heap after a collection."""
    session = page.context.new_cdp_session(page)
    session.send("HeapProfiler.collectGarbage")
    heap = session.send("Runtime.getHeapUsage")["usedSize"]
    renderers = [
        int(folder.name)
        for folder in Path("/proc").glob("[0-9]*")
        if b"--type=renderer" in (folder / "cmdline").read_bytes()
    ]
    pages = os.sysconf("SC_PAGE_SIZE")
    sizes = [int((Path("/proc") / str(pid) / "statm").read_text().split()[1]) * pages for pid in renderers]
    return max(sizes) / 1e6, heap / 1e6


def main() -> int:
    """Measure what the arguments name."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", help="released models or .onnx files")
    parser.add_argument("--minutes", type=float, default=0.25, help="of camera for each (default: %(default)s)")
    args = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    with tempfile.TemporaryDirectory() as folder:
        camera = Path(folder) / "camera.mjpeg"
        write_camera(camera, numbered_frames())
        for model in args.models:
            write_page(find_model(model), Path(folder) / "page")
            with served(Path(folder) / "page") as address, browser(camera) as page:
                started = time.perf_counter()
                open_page(page, address)
                proven = time.perf_counter() - started
                page.click("#start")
                page.wait_for_function(f"{COUNT} > 0", polling=20)
                labelled = time.perf_counter() - started
                page.wait_for_timeout(3000)
                before, (first, first_heap) = page.evaluate(COUNT), resident(page)
                began, stages = time.perf_counter(), []
                while time.perf_counter() - began < 60 * args.minutes:
                    page.wait_for_timeout(1000)
                    read = "(name) => Number(document.getElementById(name).textContent)"
                    stages.append([page.evaluate(read, name) for name in ("decode", "resize", "infer")])
                rate = (page.evaluate(COUNT) - before) / (time.perf_counter() - began)
                last, last_heap = resident(page)
            decode, resize, infer = (statistics.median(values) for values in zip(*stages, strict=True))
            sys.stdout.write(
                f"{model}: proven after {proven:.2f} s, first label after {labelled:.2f} s, {rate:.1f} frames/s; "
                f"read {decode:.1f}, resize {resize:.1f}, infer {infer:.1f} ms; memory {first:.0f} to {last:.0f} MB, "
                f"heap {first_heap:.1f} to {last_heap:.1f} MB in {args.minutes:g} minutes\n"
            )
            sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
