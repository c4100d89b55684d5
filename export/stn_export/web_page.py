"""A page that runs a model in a browser: our own files of ``runtime/web/page``, the model, and onnxruntime-web.

onnxruntime-web is 40 MB, which few users of this package need: it does not travel in it, but is taken from npm's
registry when the first page is made, checked against the hash below, and kept for the next.
"""

import base64
import gzip
import hashlib
import json
import os
import re
import shutil
import sys
import tarfile
import tempfile
import urllib.request
from pathlib import Path

from tqdm import tqdm

import stn_runtime
from stn_runtime import InputError
from stn_runtime.machine.filesystem import cache_folder, write_whole
from stn_runtime.model.manifest import Manifest
from stn_runtime.model.network import Network

VERSION = "1.30.0"
"""Of onnxruntime-web."""

_SHA512 = "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="  # npm's integrity
_ARCHIVE = f"onnxruntime-web-{VERSION}.tgz"
_REGISTRY = "https://registry.npmjs.org"
_SECONDS = 60  # without an answer of the registry
_CHUNK = 1 << 18

_WASM = {
    "ort.wasm.js": "package/dist/ort.wasm.bundle.min.mjs",
    "ort.wasm": "package/dist/ort-wasm-simd-threaded.wasm",
}
_WEBGPU = {
    "ort.webgpu.js": "package/dist/ort.webgpu.bundle.min.mjs",
    "ort.webgpu.wasm": "package/dist/ort-wasm-simd-threaded.asyncify.wasm",
}
_MODEL = "model.onnx"
_OF_A_PAGE = ("page.js", "ort", _MODEL)  # by which a folder is known that may be replaced


def check_output(output: Path, single_file: bool) -> None:
    """Check that a page can be written there.

    Raises:
        InputError: A single file does not end in .html, or a folder holds something else than a page of ours.
    """
    if single_file:
        if output.suffix != ".html":
            raise InputError(f"{output}: --single-file writes one page; the output must end in .html")
        if output.is_dir():
            raise InputError(f"{output}: is a folder; give the name of a file")
        return
    if output.suffix == ".html":
        raise InputError(f"{output}: a page is a folder; give its name, or add --single-file for one .html")
    if output.is_file():
        raise InputError(f"{output}: is a file; give the name of a folder")
    if output.is_dir() and any(output.iterdir()) and not all((output / name).exists() for name in _OF_A_PAGE):
        raise InputError(f"{output}: is a folder that holds other things than a page; give a new name")


def write_page(model: Path, output: Path, *, single_file: bool = False, archive: Path | None = None) -> Manifest:
    """Write a page that runs a model.

    Args:
        model: An .onnx file of the fused or portable form, with golden vectors.
        output: The folder to write, which any static server serves as it is; of a single file, its name.
        single_file: Whether to write one .html that opens from disk; it runs in WebAssembly only.
        archive: onnxruntime-web as ``npm pack`` fetches it; None takes it from npm's registry, once.

    Returns:
        The model's manifest.

    Raises:
        ModelContractError: The file is none that ``stn export`` wrote, or does not run.
        InputError: It cannot run in a page, the output is something else, or onnxruntime-web cannot be had.
    """
    check_output(output, single_file)
    manifest = Network(model, threads=1).manifest
    if manifest.export.form == "split":
        raise InputError(f"{model}: is of the split form, which a page does not run; export the checkpoint itself")
    if not manifest.golden:
        raise InputError(f"{model}: carries no golden vectors, with which a page proves itself; export it again")
    package = archive or _fetched()
    data = model.read_bytes()
    if single_file:
        engine = _members(package, _WASM)
        write_whole(output, _single_file(data, engine).encode())
        return manifest
    engine = _members(package, _WASM | _WEBGPU)
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}-") as place:
        page = Path(place) / "page"
        shutil.copytree(_source(), page)
        (page / "ort").mkdir()
        for name, content in engine.items():
            (page / "ort" / name).write_bytes(content)
        (page / _MODEL).write_bytes(data)
        if output.is_dir():
            output.rename(Path(place) / "before")
        page.rename(output)
    return manifest


def _source() -> Path:
    """Return the folder of our own files: in the installed package, or beside it in the repository."""
    package = Path(stn_runtime.__file__).parent
    return next(folder for folder in (package / "web", package.parent / "web" / "page") if folder.is_dir())


def _single_file(model: bytes, engine: dict[str, bytes]) -> str:
    """Return a page with everything in it: modules as data URLs, and what they load as compressed text."""
    source = _source()
    modules = {f"stn-edge-web/{path.name}": _data_url(path.read_bytes()) for path in sorted(source.glob("*.js"))}
    modules["onnxruntime-web"] = _data_url(engine["ort.wasm.js"])
    imports = json.dumps({"imports": modules})
    packed = {
        name: base64.b64encode(gzip.compress(content, mtime=0)).decode()
        for name, content in (("model", model), ("wasm", engine["ort.wasm"]))
    }
    inline = "\n".join(
        f'<script type="text/plain" data-inline="{name}">{text}</script>' for name, text in packed.items()
    )
    page = (source / "index.html").read_text(encoding="utf-8")
    style = (source / "page.css").read_text(encoding="utf-8")
    replacements = (
        (r'<link rel="stylesheet" href="page\.css">', f"<style>\n{style}</style>"),
        (r'(?:<link rel="(?:module)?preload".*>\n)+', ""),
        (r'(?s)(<script id="settings")', f"{inline}\n\\1"),
        (r'(?s)(<script id="imports" type="importmap">).*?(</script>)', f"\\1{imports}\\2"),
    )
    for pattern, text in replacements:
        page = re.sub(pattern, text, page, count=1)
    return page


def _data_url(content: bytes) -> str:
    return f"data:text/javascript;base64,{base64.b64encode(content).decode()}"


def _members(archive: Path, wanted: dict[str, str]) -> dict[str, bytes]:
    """Return files of onnxruntime-web's archive by the names that they get here.

    Raises:
        InputError: The archive cannot be read, or is of another version.
    """
    _check(archive)
    found = {}
    with tarfile.open(archive) as package:
        for name, member in wanted.items():
            file = package.extractfile(member)
            found[name] = file.read() if file is not None else b""
    return found


def _check(archive: Path) -> None:
    try:
        digest = hashlib.sha512(archive.read_bytes()).digest()
    except OSError as error:
        raise InputError(f"{archive}: cannot be read ({error.strerror})") from error
    if base64.b64encode(digest).decode() != _SHA512:
        raise InputError(
            f"{archive}: is not onnxruntime-web {VERSION} as npm publishes it; fetch it with "
            f"'npm pack onnxruntime-web@{VERSION}'"
        )


def _fetched() -> Path:
    """Return onnxruntime-web's archive in the user's cache; it is downloaded where it is not there.

    Raises:
        InputError: It cannot be downloaded, or is damaged.
    """
    cache = cache_folder()
    archive = cache / _ARCHIVE
    if archive.is_file():
        try:
            _check(archive)
        except InputError:
            archive.unlink()
        else:
            return archive
    registry = (os.environ.get("npm_config_registry") or _REGISTRY).rstrip("/")  # noqa: SIM112  (npm's own name)
    address = f"{registry}/onnxruntime-web/-/{_ARCHIVE}"
    sys.stderr.write(f"taking onnxruntime-web {VERSION} from {registry}, once\n")
    try:
        data = _download(address)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{address}: cannot be downloaded ({getattr(error, 'reason', error)}); on a machine with a network run "
            f"'npm pack onnxruntime-web@{VERSION}' and give the file with --onnxruntime-web"
        ) from error
    try:
        cache.mkdir(parents=True, exist_ok=True)
        write_whole(archive, data)
    except OSError as error:
        raise InputError(
            f"{cache}: cannot be written to ({error.strerror or error}); set XDG_CACHE_HOME to a folder of yours"
        ) from error
    _check(archive)
    return archive


def _download(address: str) -> bytes:
    if not address.startswith(("https://", "http://")):
        raise ValueError("the registry is no web address")
    with urllib.request.urlopen(address, timeout=_SECONDS) as answer:
        total = int(answer.headers.get("Content-Length") or 0) or None
        parts = []
        with tqdm(total=total, unit="B", unit_scale=True, leave=False, disable=None) as progress:
            while part := answer.read(_CHUNK):
                parts.append(part)
                progress.update(len(part))
    return b"".join(parts)
