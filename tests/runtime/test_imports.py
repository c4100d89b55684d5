"""Who may import whom (DESIGN section 1), in a fresh interpreter and by reading the imports."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BANNED = {"torch", "torchvision", "onnx", "onnxscript", "matplotlib", "pytorch_lightning", "kornia", "sklearn"}
OURS = {"stn_models", "stn_training", "stn_export", "stn_runtime", "stn_zoo"}
MAY_IMPORT = {
    "stn_runtime": set[str](),
    "stn_models": set[str](),
    "stn_training": {"stn_models", "stn_runtime"},
    "stn_export": {"stn_models", "stn_runtime"},
}
FOLDERS = {
    "stn_runtime": ROOT / "runtime" / "stn_runtime",
    "stn_models": ROOT / "models" / "stn_models",
    "stn_training": ROOT / "training" / "stn_training",
    "stn_export": ROOT / "export" / "stn_export",
}
THIRD_PARTY_OF_THE_DEVICE = {"numpy", "cv2", "onnxruntime", "tqdm"}
SERVERS = {"preview_app.py", "preview_door.py", "preview_server.py"}
THIRD_PARTY_OF_SERVERS = {"starlette", "uvicorn"}


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


@pytest.mark.parametrize(
    "module", ["stn_runtime", *(f"stn_runtime.{name}" for name in ("cli", "commands", "classifier", "pipeline", "run"))]
)
def test_the_runtime_imports_no_training_stack(module: str) -> None:
    code = f"import sys, {module}; sys.exit(', '.join({BANNED} & set(sys.modules)) or None)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, f"{module} pulled in: {done.stderr}"


def test_every_public_name_of_the_runtime_can_be_had_without_the_training_stack() -> None:
    code = (
        "import sys, stn_runtime\n"
        "for name in stn_runtime.__all__: getattr(stn_runtime, name)\n"
        f"sys.exit(', '.join({BANNED} & set(sys.modules)) or None)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_importing_the_runtime_or_asking_for_help_loads_neither_opencv_nor_onnxruntime() -> None:
    code = "import sys, stn_runtime.cli; sys.exit(', '.join({'cv2', 'onnxruntime', 'numpy'} & set(sys.modules)) or 0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_run_that_serves_nothing_loads_no_server() -> None:
    code = f"import sys, stn_runtime.run; sys.exit(', '.join({THIRD_PARTY_OF_SERVERS} & set(sys.modules)) or None)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_an_unknown_name_of_the_package_is_an_attribute_error() -> None:
    import stn_runtime

    with pytest.raises(AttributeError, match="'stn_runtime' has no attribute 'Clasifier'"):
        _ = stn_runtime.Clasifier


LOADED_BY_NAME = {
    ("stn_runtime", "commands.py"): {"stn_models", "stn_export"},
    ("stn_runtime", "doctor.py"): {"stn_export"},
    ("stn_export", "commands.py"): {"stn_training"},
}


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_imports_between_the_rooms_point_one_way(package: str) -> None:
    files = sorted(FOLDERS[package].rglob("*.py"))
    assert files
    for path in files:
        foreign = (_imported(path) & OURS) - {package} - MAY_IMPORT[package]
        # what is installed with another extra is loaded by name when it is asked for, never required
        foreign -= LOADED_BY_NAME.get((package, path.name), set())
        assert not foreign, f"{path.relative_to(ROOT)} imports {', '.join(sorted(foreign))}"


def test_the_runtime_imports_only_the_device_packages_by_statement() -> None:
    for path in sorted(FOLDERS["stn_runtime"].rglob("*.py")):
        statements = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                statements |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                statements.add(node.module.split(".")[0])
        foreign = statements - set(sys.stdlib_module_names) - THIRD_PARTY_OF_THE_DEVICE
        foreign -= THIRD_PARTY_OF_SERVERS if path.name in SERVERS else set()
        assert not foreign, f"{path.name} imports {', '.join(sorted(foreign))}"


def test_only_one_module_of_the_runtime_imports_opencv() -> None:
    importers = [path.name for path in FOLDERS["stn_runtime"].glob("*.py") if "cv2" in _imported(path)]
    assert importers == ["opencv.py"]


def test_no_room_asserts_in_its_code() -> None:
    asserting = [
        str(path.relative_to(ROOT))
        for folder in FOLDERS.values()
        for path in sorted(folder.rglob("*.py"))
        if any(isinstance(node, ast.Assert) for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    ]
    assert not asserting
