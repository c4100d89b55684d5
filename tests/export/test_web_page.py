"""Making a page: what it holds, what is refused, and where onnxruntime-web comes from."""

import base64
import gzip
import hashlib
import io
import json
import re
import tarfile
from pathlib import Path

import pytest

from stn_export import web_page
from stn_export.web_page import check_output, write_page
from stn_runtime import InputError
from stn_runtime.cli import main
from stn_runtime.model.zoo import find_model
from tests.support.browser import served

ENGINE = {
    "package/dist/ort.wasm.bundle.min.mjs": b"export default 1;",
    "package/dist/ort-wasm-simd-threaded.wasm": b"\0asm",
    "package/dist/ort.webgpu.bundle.min.mjs": b"export default 2;",
    "package/dist/ort-wasm-simd-threaded.asyncify.wasm": b"\0asm2",
}


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package with the files that are taken from onnxruntime-web's, and its hash in place of the real one's."""
    path = tmp_path / "registry" / "onnxruntime-web" / "-" / f"onnxruntime-web-{web_page.VERSION}.tgz"
    path.parent.mkdir(parents=True)
    with tarfile.open(path, "w:gz") as package:
        for name, content in ENGINE.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            package.addfile(entry, io.BytesIO(content))
    digest = hashlib.sha512(path.read_bytes()).digest()
    monkeypatch.setattr(web_page, "_SHA512", base64.b64encode(digest).decode())
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("npm_config_registry", "http://127.0.0.1:9/")
    return path


def test_a_page_holds_all_that_it_loads(archive: Path, tmp_path: Path) -> None:
    manifest = write_page(find_model("digits"), tmp_path / "page", archive=archive)
    assert manifest.name == "digits"
    page = tmp_path / "page"
    assert (page / "model.onnx").read_bytes() == find_model("digits").read_bytes()
    assert {path.name: path.read_bytes() for path in (page / "ort").iterdir()} == dict(
        zip(("ort.wasm.js", "ort.wasm", "ort.webgpu.js", "ort.webgpu.wasm"), ENGINE.values(), strict=True)
    )
    index = (page / "index.html").read_text()
    imported = set(re.findall(r'from "stn-edge-web/(\w+\.js)"', "".join(p.read_text() for p in page.glob("*.js"))))
    assert imported <= {path.name for path in page.glob("*.js")}
    imports = json.loads(re.findall(r'(?s)<script id="imports" type="importmap">(.*?)</script>', index)[0])["imports"]
    assert all((page / address).exists() for address in imports.values())


def test_a_single_file_loads_nothing(archive: Path, tmp_path: Path) -> None:
    write_page(find_model("digits"), tmp_path / "page.html", single_file=True, archive=archive)
    page = (tmp_path / "page.html").read_text()
    imports = json.loads(re.findall(r'(?s)<script id="imports" type="importmap">(.*?)</script>', page)[0])["imports"]
    assert all(address.startswith("data:text/javascript;base64,") for address in imports.values())
    inline = dict(re.findall(r'data-inline="(\w+)">([^<]*)<', page))
    unpacked = {name: gzip.decompress(base64.b64decode(text)) for name, text in inline.items()}
    assert unpacked == {"model": find_model("digits").read_bytes(), "wasm": b"\0asm"}
    assert 'href="page.css"' not in page


def test_a_page_is_replaced_and_other_folders_are_left_alone(archive: Path, tmp_path: Path) -> None:
    page = tmp_path / "page"
    write_page(find_model("digits"), page, archive=archive)
    (page / "old.txt").write_text("old")
    write_page(find_model("cifar10"), page, archive=archive)
    assert (page / "model.onnx").read_bytes() == find_model("cifar10").read_bytes()
    assert not (page / "old.txt").exists()
    other = tmp_path / "thesis"
    other.mkdir()
    (other / "chapter.tex").write_text("long work")
    (other / "ort").mkdir()  # a name that anybody may use
    with pytest.raises(InputError, match="holds other things than a page"):
        write_page(find_model("digits"), other, archive=archive)
    assert sorted(path.name for path in other.iterdir()) == ["chapter.tex", "ort"]


@pytest.mark.parametrize(
    ("name", "single_file", "sentence"),
    [
        ("page.html", False, "a page is a folder; give its name, or add --single-file"),
        ("page", True, "the output must end in .html"),
        ("file", False, "is a file; give the name of a folder"),
        ("folder.html", True, "is a folder; give the name of a file"),
    ],
)
def test_an_output_that_does_not_go_is_named(name: str, single_file: bool, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("here")
    (tmp_path / "folder.html").mkdir()
    with pytest.raises(InputError, match=re.escape(sentence)):
        check_output(tmp_path / name, single_file)


def test_a_model_that_no_page_runs_is_refused(archive: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is of the split form, which a page does not run"):
        write_page(find_model("digits-split"), tmp_path / "page", archive=archive)
    assert not (tmp_path / "page").exists()


def test_onnxruntime_web_is_taken_from_the_registry_once(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with served(tmp_path / "registry") as address:
        monkeypatch.setenv("npm_config_registry", address)
        write_page(find_model("digits"), tmp_path / "page")
    assert f"taking onnxruntime-web {web_page.VERSION} from" in capsys.readouterr().err
    write_page(find_model("digits"), tmp_path / "page")  # the server is gone
    assert capsys.readouterr().err == ""
    cached = tmp_path / "cache" / "stn-edge" / archive.name
    cached.write_bytes(b"cut off")
    with pytest.raises(InputError, match="cannot be downloaded"):
        write_page(find_model("digits"), tmp_path / "page")
    assert not cached.exists()


@pytest.mark.usefixtures("archive")
def test_a_cache_that_cannot_be_written_to_is_not_taken_for_a_network_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    with served(tmp_path / "registry") as address:
        monkeypatch.setenv("npm_config_registry", address)
        with pytest.raises(InputError, match=r"cache/stn-edge: cannot be written to \(.*\); set XDG_CACHE_HOME"):
            write_page(find_model("digits"), tmp_path / "page")


def test_another_archive_is_refused(archive: Path, tmp_path: Path) -> None:
    archive.write_bytes(archive.read_bytes() + b"more")
    with pytest.raises(InputError, match="as npm publishes it; fetch it with 'npm pack"):
        write_page(find_model("digits"), tmp_path / "page", archive=archive)
    with pytest.raises(InputError, match=r"gone\.tgz: cannot be read \(No such file"):
        write_page(find_model("digits"), tmp_path / "page", archive=tmp_path / "gone.tgz")
    assert not (tmp_path / "page").exists()


def test_the_command_makes_a_page_of_a_released_model(
    archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["export", "digits", "--target", "web", "-o", str(tmp_path / "page"), "--onnxruntime-web", str(archive)]
    assert main(command) == 0
    assert f"python -m http.server -d {tmp_path / 'page'}" in capsys.readouterr().out
    assert main([*command[:5], str(tmp_path / "model.onnx"), "--single-file"]) == 2
    assert "are for a page" in capsys.readouterr().err
    assert main(["export", "dogits", "--target", "web", "-o", str(tmp_path / "other")]) == 2
    assert "no such file and no released model" in capsys.readouterr().err
