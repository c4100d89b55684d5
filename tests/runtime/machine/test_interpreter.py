"""A child interpreter that no file of the working folder disturbs."""

import subprocess
from pathlib import Path

from stn_runtime.machine.interpreter import python_command


def test_a_file_of_the_working_folder_is_no_package(tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('the wrong one')")
    command = python_command("import json, sys; print(json.dumps(sys.argv[1:]))", "a b", "c")
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, '["a b", "c"]\n', "")
