"""The page in a real browser: what it says is what Python says, and whatever fails is a sentence on it."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest

from stn_export.web_page import write_page
from stn_runtime import Classifier, InputError
from stn_runtime.model.zoo import find_model
from tests.support.browser import (
    READ_NUMBER,
    browser,
    numbered_frames,
    open_page,
    samples,
    served,
    why_no_browser,
    write_camera,
)

REASON = why_no_browser()
pytestmark = pytest.mark.skipif(REASON is not None, reason=f"no browser: {REASON}")

if TYPE_CHECKING:
    from playwright.sync_api import Page

ISOLATED = {"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp"}
WATCHED = f"""() => {{
  window.seen = [];
  const number = {READ_NUMBER};
  new MutationObserver(() => window.seen.push([number(), document.getElementById("label").textContent]))
    .observe(document.getElementById("count"), {{ childList: true, characterData: true, subtree: true }});
}}"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("web") / "page"
    try:
        write_page(find_model("digits"), folder)
    except InputError as error:
        pytest.skip(str(error))
    return folder


@pytest.fixture(scope="module")
def camera(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("camera") / "samples.mjpeg"
    write_camera(path, numbered_frames())
    return path


def saved_records(page: "Page") -> list[dict[str, Any]]:
    with page.expect_download() as download:
        page.click("#save")
    return [json.loads(line) for line in Path(download.value.path()).read_text().splitlines()]


def message(page: "Page") -> str:
    page.wait_for_function("!document.getElementById('message').hidden")
    return str(page.inner_text("#message"))


def test_pictures_get_the_labels_and_outlines_that_python_gives_them(folder: Path, tmp_path: Path) -> None:
    classifier = Classifier("digits", threads=1)
    paths = []
    for number, frame in enumerate(numbered_frames()[::25]):
        paths.append(tmp_path / f"{number}.png")
        cv2.imwrite(str(paths[-1]), frame[..., ::-1])
    with served(folder) as address, browser() as page:
        assert open_page(page, address) == "ready"
        assert "This is the network that was exported" in page.inner_text("#proof")
        page.set_input_files("#files", [str(path) for path in paths])
        page.wait_for_function(f"document.getElementById('count').textContent === '{len(paths)}'")
        records = saved_records(page)
    assert [record["source"] for record in records] == [path.name for path in paths]
    for record, prediction in zip(records, classifier.predict([str(path) for path in paths]), strict=True):
        assert record["top"][0]["label"] == prediction.label
        assert record["confidence"] == pytest.approx(prediction.confidence, abs=1e-4)
        np.testing.assert_allclose(record["theta"], prediction.theta, atol=1e-5)
        np.testing.assert_allclose(record["outline"], prediction.outline, atol=0.005 + 1e-3)  # it is rounded to 0.01


def test_a_camera_is_read_live_and_its_frames_get_their_digits(folder: Path, camera: Path) -> None:
    truth = [digit for _, digit in samples()]
    with served(folder) as address, browser(camera) as page:
        assert open_page(page, address) == "ready"
        page.evaluate(WATCHED)
        page.click("#start")
        enough = "window.seen.length > 200 && new Set(window.seen.map(([n]) => n)).size > 15"
        page.wait_for_function(enough, timeout=120_000)
        seen = page.evaluate("window.seen")
        assert page.inner_text("#state") == "live"
        page.click("#stop")
        records = saved_records(page)
    right = sum(label == truth[number] for number, label in seen)
    assert right >= 0.95 * len(seen)
    assert len(records) >= len(seen)
    assert {"source", "frame", "time", "label", "confidence", "rejected", "top", "theta", "outline"} <= set(records[0])
    assert [record["frame"] for record in records] == list(range(len(records)))


def test_a_refused_camera_is_a_sentence_and_pictures_still_open(folder: Path, camera: Path) -> None:
    with served(folder) as address, browser(camera, allowed=False) as page:
        assert open_page(page, address) == "ready"
        page.click("#start")
        assert "The camera was refused: allow it" in message(page)
        page.set_input_files("#files", str(samples()[0][0]))
        page.wait_for_function("document.getElementById('count').textContent === '1'")
        assert page.inner_text("#label") == samples()[0][1]


def test_without_a_camera_there_is_a_sentence(folder: Path) -> None:
    with served(folder) as address, browser() as page:
        assert open_page(page, address) == "ready"
        page.click("#start")
        assert "No such camera is connected" in message(page)
        assert page.is_enabled("#start")


def test_a_camera_that_is_unplugged_is_a_sentence_and_can_be_started_again(folder: Path, camera: Path) -> None:
    with served(folder) as address, browser(camera) as page:
        page.add_init_script(
            "const open = MediaDevices.prototype.getUserMedia;"
            "MediaDevices.prototype.getUserMedia = async function (...all) {"
            "  return window.opened = await open.apply(this, all); };"
        )
        assert open_page(page, address) == "ready"
        page.click("#start")
        page.wait_for_function("Number(document.getElementById('count').textContent) > 3")
        page.evaluate("window.opened.getTracks().forEach((track) => track.dispatchEvent(new Event('ended')))")
        assert "The camera is gone" in message(page)
        assert page.inner_text("#state") == "ready"
        page.click("#start")
        page.wait_for_function("document.getElementById('state').textContent === 'live'")
        assert not page.is_visible("#message")


def test_a_hidden_tab_pauses_and_goes_on(folder: Path, camera: Path) -> None:
    hide = (
        "(hidden) => { Object.defineProperty(document, 'hidden', { value: hidden, configurable: true });"
        " document.dispatchEvent(new Event('visibilitychange')); }"
    )
    with served(folder) as address, browser(camera) as page:
        assert open_page(page, address) == "ready"
        page.click("#start")
        page.wait_for_function("Number(document.getElementById('count').textContent) > 3")
        page.evaluate(hide, True)
        assert page.inner_text("#state") == "paused"
        page.wait_for_timeout(300)  # the frame that was under way
        before = page.inner_text("#count")
        page.wait_for_timeout(1500)
        assert page.inner_text("#count") == before
        page.evaluate(hide, False)
        page.wait_for_function(f"Number(document.getElementById('count').textContent) > {before} + 3")
        assert page.inner_text("#state") == "live"


def test_a_file_that_is_no_picture_is_named_and_kept_in_the_records(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "letter.png").write_text("Dear reader")
    with served(folder) as address, browser() as page:
        assert open_page(page, address) == "ready"
        page.set_input_files("#files", [str(tmp_path / "letter.png"), str(samples()[0][0])])
        assert "letter.png: is damaged, or no picture that this browser can read" in message(page)
        page.wait_for_function("document.getElementById('count').textContent === '2'")
        first, second = saved_records(page)
    assert "letter.png" in first["error"]
    assert second["label"] == samples()[0][1]


def test_files_that_are_no_pictures_are_all_named_and_leave_no_answer_of_another(folder: Path, tmp_path: Path) -> None:
    good, digit = samples()[0]
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "cut.jpg").write_bytes(good.read_bytes()[:200])
    with served(folder) as address, browser() as page:
        assert open_page(page, address) == "ready"
        page.set_input_files("#files", [str(tmp_path / "empty.jpg")])
        assert message(page) == "empty.jpg: is empty (0 bytes)."
        assert page.is_enabled("#save")
        page.click("#clear")
        assert (page.inner_text("#count"), page.is_enabled("#save")) == ("0", False)
        page.set_input_files("#files", str(good))
        page.wait_for_function("document.getElementById('count').textContent === '1'")
        assert page.inner_text("#label") == digit
        page.set_input_files("#files", [str(tmp_path / "empty.jpg"), str(tmp_path / "cut.jpg")])
        page.wait_for_function("document.getElementById('count').textContent === '3'")
        assert "empty.jpg: " in message(page)
        assert "cut.jpg: is damaged" in message(page)
        assert (page.inner_text("#source"), page.inner_text("#label")) == ("cut.jpg", "cannot be read")
        records = saved_records(page)
    assert [record["frame"] for record in records] == [0, 0, 0]


@pytest.mark.parametrize("typed", ["80", "-1", ""])
def test_a_threshold_that_is_none_is_set_back_and_told(folder: Path, typed: str) -> None:
    own = str(Classifier("digits", threads=1).manifest.threshold)
    with served(folder) as address, browser() as page:
        assert open_page(page, address) == "ready"
        page.fill("#threshold", typed)
        page.press("#threshold", "Tab")
        assert "is a number from 0 to 1" in message(page)
        assert page.input_value("#threshold") == own


def test_what_is_dropped_before_the_page_is_ready_does_not_leave_it(folder: Path) -> None:
    dropped = """() => {
      const event = new DragEvent("drop", { cancelable: true, dataTransfer: new DataTransfer() });
      event.dataTransfer.items.add(new File(["x"], "x.png", { type: "image/png" }));
      document.dispatchEvent(event);
      return event.defaultPrevented;
    }"""
    with served(folder) as address, browser() as page:
        page.route("**/model.onnx", lambda _route: None)  # it is never answered
        page.goto(address)
        page.wait_for_function("document.getElementById('state').textContent === 'loading'")
        page.wait_for_timeout(500)
        assert page.evaluate(dropped)
        assert "not ready yet" in message(page)


def test_dropped_and_pasted_pictures_are_classified(folder: Path) -> None:
    path, digit = samples()[0]
    give = """([bytes, kind]) => {
      const data = new DataTransfer();
      data.items.add(new File([new Uint8Array(bytes)], "given.jpg", { type: "image/jpeg" }));
      document.dispatchEvent(kind === "drop"
        ? new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true })
        : new ClipboardEvent("paste", { clipboardData: data, bubbles: true }));
    }"""
    with served(folder) as address, browser() as page:
        assert open_page(page, address) == "ready"
        for count, kind in enumerate(("drop", "paste"), 1):
            page.evaluate(give, [list(path.read_bytes()), kind])
            page.wait_for_function(f"document.getElementById('count').textContent === '{count}'")
            assert page.inner_text("#label") == digit


def test_without_webassembly_the_page_says_so(folder: Path) -> None:
    with served(folder) as address, browser() as page:
        page.add_init_script("delete window.WebAssembly")
        assert open_page(page, address) == "not started"
        assert "has no WebAssembly" in message(page)
        assert page.is_disabled("#start")


def test_a_network_that_answers_otherwise_is_not_used(folder: Path) -> None:
    with served(folder) as address, browser() as page:
        page.route(
            "**/network.js",
            lambda route: route.fulfill(
                content_type="text/javascript",
                body=(folder / "network.js")
                .read_text()
                .replace("return type === ", "data[0] += 0.01; return type === "),
            ),
        )
        assert open_page(page, address) == "not started"
        assert "answers otherwise than at its export, so it is not used" in message(page)
        assert page.is_disabled("#start")


@pytest.mark.usefixtures("folder")  # which skips where onnxruntime-web cannot be had
def test_webgpu_runs_the_network_only_if_it_answers_as_recorded(tmp_path: Path) -> None:
    path, _ = samples()[0]
    write_page(find_model("cifar10"), tmp_path / "page")
    with served(tmp_path / "page") as address, browser(gpu=True) as page:
        assert open_page(page, address) == "ready"
        if page.evaluate("document.querySelector('#engine [value=webgpu]').hidden"):
            pytest.skip("this Chromium offers no WebGPU without a GPU")
        page.select_option("#engine", "webgpu")
        page.wait_for_function("!document.getElementById('engine').disabled", timeout=120_000)
        engine = page.input_value("#engine")
        told = page.inner_text("#message")
        assert ("so it goes on in WebAssembly" in told) == (engine == "wasm"), told
        assert (engine, page.inner_text("#state")) in (("webgpu", "ready"), ("wasm", "ready"))
        page.set_input_files("#files", str(path))
        page.wait_for_function("document.getElementById('count').textContent === '1'")
        [found] = saved_records(page)
    [expected] = Classifier("cifar10", threads=1).predict([str(path)])
    assert found["top"][0]["label"] == expected.top[0].label
    assert found["top"][0]["probability"] == pytest.approx(expected.top[0].probability, abs=1e-3)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "model.onnx cannot be loaded: the server answers 404"),
        (b"no model", "model.onnx: "),
    ],
    ids=["missing", "damaged"],
)
def test_a_model_that_cannot_be_used_is_a_sentence(folder: Path, content: bytes | None, sentence: str) -> None:
    with served(folder) as address, browser() as page:
        page.route(
            "**/model.onnx",
            lambda route: route.fulfill(status=404) if content is None else route.fulfill(body=content),
        )
        assert open_page(page, address) == "not started"
        assert sentence in message(page)


def test_a_page_opened_as_a_file_says_what_to_do(folder: Path) -> None:
    with browser() as page:
        page.goto((folder / "index.html").as_uri())
        assert "python -m http.server" in message(page)


def test_a_single_file_opens_from_disk(tmp_path: Path, folder: Path) -> None:
    path, digit = samples()[3]
    write_page(find_model("digits-int8"), tmp_path / "digits.html", single_file=True)
    with browser() as page:
        assert open_page(page, (tmp_path / "digits.html").as_uri()) == "ready"
        page.set_input_files("#files", str(path))
        page.wait_for_function("document.getElementById('count').textContent === '1'")
        assert page.inner_text("#label") == digit


def test_an_isolated_page_runs_as_well(folder: Path) -> None:
    with served(folder, ISOLATED) as address, browser() as page:
        assert open_page(page, address) == "ready"
        assert page.evaluate("crossOriginIsolated")


def test_the_page_is_used_by_keyboard_alone(folder: Path, camera: Path) -> None:
    with served(folder) as address, browser(camera) as page:
        assert open_page(page, address) == "ready"
        for _ in range(10):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.id") == "start":
                break
        page.keyboard.press("Enter")
        page.wait_for_function("document.getElementById('state').textContent === 'live'")
        assert page.evaluate("document.activeElement.id") == "stop"
        page.keyboard.press("Enter")
        page.wait_for_function("document.getElementById('state').textContent === 'ready'")
        assert page.evaluate("document.activeElement.id") == "start"


def test_every_control_has_a_name(folder: Path) -> None:
    with served(folder) as address, browser() as page:
        assert open_page(page, address) == "ready"
        nameless = page.evaluate(
            "[...document.querySelectorAll('button, select, input, canvas')].filter((element) =>"
            " !(element.textContent.trim() || element.labels?.length || element.getAttribute('aria-label')))"
            ".map((element) => element.id)"
        )
    assert nameless == []
