"""Who may import whom (DESIGN section 1), in a fresh interpreter and by reading the imports."""

import ast
import subprocess
import sys
from collections import Counter
from graphlib import TopologicalSorter
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BANNED = {"torch", "torchvision", "onnx", "onnxscript", "matplotlib", "pytorch_lightning", "kornia", "sklearn"}
OURS = {"stn_models", "stn_training", "stn_export", "stn_runtime", "stn_zoo"}
MAY_IMPORT = {
    "stn_runtime": set[str](),
    "stn_models": {"stn_runtime"},
    "stn_training": {"stn_models", "stn_runtime"},
    "stn_export": {"stn_models", "stn_runtime"},
}
OF_THE_RUNTIME_FOR_MODELS = {
    "stn_runtime.errors",
    "stn_runtime.machine.filesystem",
    "stn_runtime.model.schema",
    "stn_runtime.model.sequences",
}
"""Modules of the runtime that need the standard library and numpy alone, and that ``stn_models`` may import."""
FOLDERS = {
    "stn_runtime": ROOT / "runtime" / "stn_runtime",
    "stn_models": ROOT / "models" / "stn_models",
    "stn_training": ROOT / "training" / "stn_training",
    "stn_export": ROOT / "export" / "stn_export",
}
THIRD_PARTY_OF_THE_DEVICE = {"numpy", "cv2", "onnxruntime", "tqdm"}
THIRD_PARTY_OF_SERVERS = {"prometheus_client", "starlette", "uvicorn"}


def _imported(path: Path) -> set[str]:
    """Top-level names that a file imports anywhere in it, also inside functions and by import_module("...")."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.split(".")[0])
        elif (
            isinstance(node, ast.Call)
            and ast.unparse(node.func).split(".")[-1] in ("import_module", "__import__")
            and node.args
            and isinstance(node.args[0], ast.Constant)
        ):
            names.add(str(node.args[0].value).split(".")[0])
    return names


def _loaded_by(folder: str, unwanted: set[str]) -> str:
    """Which of some modules are loaded in a fresh interpreter by all modules below a folder of the runtime."""
    root = FOLDERS["stn_runtime"]
    modules = [path.relative_to(root.parent).with_suffix("") for path in sorted((root / folder).rglob("*.py"))]
    names = [".".join(path.parts).removesuffix(".__init__") for path in modules if path.stem != "__main__"]
    assert names
    code = f"import sys, {', '.join(names)}; print(*sorted({unwanted} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_the_runtime_imports_no_training_stack() -> None:
    assert _loaded_by(".", BANNED) == ""


@pytest.mark.parametrize("folder", ["machine", "images", "sources"])
def test_what_gives_pictures_needs_no_onnxruntime(folder: str) -> None:
    assert _loaded_by(folder, {"onnxruntime"}) == ""


def test_every_public_name_of_the_runtime_can_be_had_without_the_training_stack() -> None:
    code = (
        "import sys, stn_runtime\n"
        "for name in stn_runtime.__all__: getattr(stn_runtime, name)\n"
        f"sys.exit(', '.join({BANNED} & set(sys.modules)) or None)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_importing_the_runtime_or_asking_for_help_loads_neither_opencv_nor_onnxruntime() -> None:
    code = "import sys, stn_runtime.cli; print(*{'cv2', 'onnxruntime', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_a_run_that_serves_nothing_loads_no_server() -> None:
    assert _loaded_by("commands", THIRD_PARTY_OF_SERVERS) == ""


_STATE = """
import logging, os, sys, threading, warnings, signal
def state():
    cv2 = sys.modules.get("cv2")
    return (dict(os.environ), os.getcwd(), os.umask(os.umask(0o022)), threading.active_count(), logging.root.level,
            logging.root.handlers, warnings.filters[:], sys.excepthook, sys.stdout, sys.stderr,
            [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)])
"""


def test_importing_the_runtime_changes_nothing_in_the_process() -> None:
    """Compared with a process that has loaded the packages below: their own effects are not ours."""
    root = FOLDERS["stn_runtime"]
    modules = [".".join(path.relative_to(root.parent).with_suffix("").parts) for path in sorted(root.rglob("*.py"))]
    ours = ", ".join(name.removesuffix(".__init__") for name in modules if not name.endswith("__main__"))
    code = (
        "import cv2, numpy, onnxruntime, starlette, uvicorn, tqdm\n"
        f"{_STATE}\n"
        "cv2_before = cv2.utils.logging.getLogLevel(), cv2.getNumThreads()\n"
        "before = state()\n"
        f"import {ours}\n"
        "for name in stn_runtime.__all__: getattr(stn_runtime, name)\n"
        "assert state() == before, (state(), before)\n"
        "assert (cv2.utils.logging.getLogLevel(), cv2.getNumThreads()) == cv2_before\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_an_unknown_name_of_the_package_is_an_attribute_error() -> None:
    import stn_runtime

    with pytest.raises(AttributeError, match="'stn_runtime' has no attribute 'Clasifier'"):
        _ = stn_runtime.Clasifier


LOADED_BY_NAME = {
    ("stn_runtime", "commands/models.py"): {"stn_models"},
    ("stn_runtime", "commands/verify.py"): {"stn_export"},
    ("stn_runtime", "doctor/command.py"): {"stn_export"},
    ("stn_export", "commands.py"): {"stn_training"},
    ("stn_training", "commands/train.py"): {"stn_export"},
}


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_imports_between_the_rooms_point_one_way(package: str) -> None:
    files = sorted(FOLDERS[package].rglob("*.py"))
    assert files
    for path in files:
        foreign = (_imported(path) & OURS) - {package} - MAY_IMPORT[package]
        # what is installed with another extra is loaded by name when it is asked for, never required
        foreign -= LOADED_BY_NAME.get((package, path.relative_to(FOLDERS[package]).as_posix()), set())
        assert not foreign, f"{path.relative_to(ROOT)} imports {', '.join(sorted(foreign))}"


def test_the_models_import_of_the_runtime_only_modules_that_need_nothing() -> None:
    modules = set()
    for path in sorted(FOLDERS["stn_models"].rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                modules |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                modules.add(node.module)
    assert {name for name in modules if name.split(".")[0] == "stn_runtime"} <= OF_THE_RUNTIME_FOR_MODELS


def test_what_the_models_import_of_the_runtime_loads_the_standard_library_and_numpy_alone() -> None:
    code = (
        f"import sys; before = set(sys.modules); import {', '.join(sorted(OF_THE_RUNTIME_FOR_MODELS))}\n"
        "loaded = {name.split('.')[0] for name in set(sys.modules) - before}\n"
        "print(*sorted(loaded - set(sys.stdlib_module_names) - {'stn_runtime', 'numpy'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_the_runtime_imports_only_the_device_packages_by_statement() -> None:
    for path in sorted(FOLDERS["stn_runtime"].rglob("*.py")):
        statements = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                statements |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                statements.add(node.module.split(".")[0])
        foreign = statements - set(sys.stdlib_module_names) - THIRD_PARTY_OF_THE_DEVICE
        foreign -= THIRD_PARTY_OF_SERVERS if path.parent.name == "preview" else set()
        assert not foreign, f"{path.name} imports {', '.join(sorted(foreign))}"


def test_only_one_module_of_the_runtime_imports_opencv() -> None:
    importers = [path.name for path in FOLDERS["stn_runtime"].rglob("*.py") if "cv2" in _imported(path)]
    assert importers == ["opencv.py"]


def test_no_room_asserts_in_its_code() -> None:
    asserting = [
        str(path.relative_to(ROOT))
        for folder in FOLDERS.values()
        for path in sorted(folder.rglob("*.py"))
        if any(isinstance(node, ast.Assert) for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    ]
    assert not asserting


FLOORS = {
    "stn_runtime": [
        {"errors"},
        {"arguments", "machine"},
        {"images"},
        {"model", "sources"},
        {"records"},
        {"views"},
        {"preview", "pipeline"},
        {"cluster"},
        {"commands"},
        {"cli"},
        {"bench", "doctor"},
        {"__main__", "__init__"},
    ],
    "stn_export": [
        {"graph"},
        {"forms", "pytorch"},
        {"proof"},
        {"card", "graph_comparison", "linting", "network_graph", "theta_lookup"},
        {"threshold_lookup"},
        {"optimizer"},
        {"exporter", "web_page"},
        {"module_exporter"},
        {"commands"},
        {"__init__"},
    ],
}
"""Who may import whom within a package: a name only those before its own set."""


def _inner_imports(path: Path, root: Path) -> set[tuple[str, ...]]:
    """The modules of its own package that a file imports, also inside functions, as paths below the package."""
    here, found = path.relative_to(root).parts[:-1], set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = (*here[: len(here) - node.level + 1], *(node.module.split(".") if node.module else ()))
            for alias in node.names:
                place = root.joinpath(*base, alias.name)
                is_module = place.is_dir() or place.with_suffix(".py").is_file()
                found.add((*base, alias.name) if is_module else base)
    return {target for target in found if target}


@pytest.mark.parametrize("package", FLOORS)
def test_imports_within_a_package_point_down_its_floors(package: str) -> None:
    root, floors = FOLDERS[package], FLOORS[package]
    floor_of = {name: number for number, names in enumerate(floors) for name in names}
    there = {path.relative_to(root).parts[0].removesuffix(".py") for path in root.rglob("*.py")}
    assert there <= set(floor_of), "a module or folder without a floor"
    for path in sorted(root.rglob("*.py")):
        own = path.relative_to(root).parts[0].removesuffix(".py")
        for target in _inner_imports(path, root):
            allowed = target[0] == own or floor_of[target[0]] < floor_of[own]
            assert allowed, f"{path.relative_to(root)} imports {'.'.join(target)}"


@pytest.mark.parametrize("package", FOLDERS)
def test_no_modules_import_each_other_in_a_circle(package: str) -> None:
    root = FOLDERS[package]
    graph = {
        path.relative_to(root).with_suffix("").parts: _inner_imports(path, root)
        for path in root.rglob("*.py")
        if path.name not in ("__init__.py", "__main__.py")
    }
    list(TopologicalSorter(graph).static_order())  # raises CycleError


@pytest.mark.parametrize("package", FOLDERS)
def test_no_two_modules_of_a_package_share_a_name_unless_they_are_the_same_thing(package: str) -> None:
    names = Counter(path.stem for path in FOLDERS[package].rglob("*.py") if path.stem != "__init__")
    assert {name for name, count in names.items() if count > 1} <= {"command"}  # that of a folder that is a command


@pytest.mark.parametrize("package", FOLDERS)
def test_no_folder_holds_more_modules_than_one_can_overlook(package: str) -> None:
    counts = Counter(path.parent for path in FOLDERS[package].rglob("*.py") if path.stem != "__init__")
    assert max(counts.values()) <= 14


@pytest.mark.parametrize(
    "path", sorted((ROOT / "tests").glob("benchmarks/*.py")) + sorted((ROOT / "tests").glob("stress/*.py")), ids=str
)
def test_every_benchmark_imports_what_there_is(path: Path) -> None:
    """Benchmarks run by hand; a name that has moved would be seen late."""
    missing = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level == 0 and (node.module or "").split(".")[0] in OURS:
            module = import_module(node.module or "")
            missing += [alias.name for alias in node.names if not hasattr(module, alias.name)]
    assert not missing
