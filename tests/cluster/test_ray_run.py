"""Runs on Ray: every picture has one row, whatever dies; folders, parquet files and an object store."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from stn_runtime import Classifier, InputError
from stn_runtime.cli import main
from stn_runtime.cluster import partitions
from stn_runtime.cluster.batch_classifier import BatchClassifier
from stn_runtime.cluster.partitions import divided, picture_column, read_pictures
from stn_runtime.model.zoo import find_model
from stn_runtime.sources.frame import EVERYTHING, Selection
from tests.support.waiting import until

ray = pytest.importorskip("ray", reason="needs ray: pip install 'stn-edge[cluster]'")
pa = pytest.importorskip("pyarrow", reason="needs pyarrow: pip install 'stn-edge[cluster]'")
parquet = pytest.importorskip("pyarrow.parquet")

SAMPLES = sorted((find_model("digits").parent / "samples").iterdir())


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """Ray with two CPUs, for all tests that need it; its workers have the environment that it starts with."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_BACKEND_LOG_LEVEL", "fatal")
        patch.setenv("AWS_ACCESS_KEY_ID", "testing")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
        patch.setenv("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required")  # moto keeps the others' as part of the file
        ray.init(num_cpus=2, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
        yield
        ray.shutdown()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Sixty small pictures, one that is none, and what another program left."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(60):
        picture = cv2.imread(str(SAMPLES[number % len(SAMPLES)]))
        cv2.imwrite(str(folder / f"{number:03d}.png"), cv2.resize(picture, (120, 120), interpolation=cv2.INTER_AREA))
    (folder / "060.jpg").write_bytes(b"no picture")
    (folder / "._061.jpg").write_bytes(b"of a Mac")
    return folder


@pytest.fixture
def small_partitions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partitions, "PICTURES", 10)


def rows(output: Path) -> list[dict[str, Any]]:
    table: list[dict[str, Any]] = parquet.read_table(output).to_pylist()
    return sorted(table, key=lambda row: (row["source"], row["frame"]))


def run(*arguments: str | Path) -> int:
    return main(["run", "--engine", "ray", *map(str, arguments)])


def test_a_folder_gets_the_rows_that_a_local_run_gives(
    cluster: None, small_partitions: None, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "labels.parquet"
    assert run(folder, "--output", output) == 1  # one is no picture
    assert "61 frames, 1 failed" in capsys.readouterr().err
    assert main(["run", str(folder), "--output", str(tmp_path / "local.jsonl")]) == 1
    local = [json.loads(line) for line in (tmp_path / "local.jsonl").read_text().splitlines()]
    found = rows(output)
    assert [row["source"] for row in found] == [record["source"] for record in local]
    for row, record in zip(found, local, strict=True):
        assert row["error"] == record.get("error")
        assert row["label"] == record.get("label")
        assert row["rejected"] == record.get("rejected")
        if "error" not in record:
            assert row["confidence"] == pytest.approx(record["confidence"], abs=1e-5)
            np.testing.assert_allclose(row["outline"], record["outline"], atol=0.02)
    assert sorted(path.name for path in output.glob("part-*")) == [f"part-{n:06d}.parquet" for n in range(7)]


def test_a_run_that_broke_off_goes_on_with_the_partitions_that_are_missing(
    cluster: None, small_partitions: None, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "labels.parquet"
    run(folder, "--output", output)
    first = rows(output)
    kept = output / "part-000001.parquet"
    before = kept.stat().st_mtime_ns
    (output / "part-000003.parquet").unlink()
    (output / ".part-000003.parquet.1234").write_bytes(b"half")  # of a worker that died while it wrote
    capsys.readouterr()
    assert run(folder, "--output", output, "--resume") == 0
    said = capsys.readouterr().err
    assert "6 of 7 partitions are there already" in said
    assert "10 frames, 0 failed" in said
    assert rows(output) == first
    assert kept.stat().st_mtime_ns == before
    assert run(folder, "--output", output, "--resume") == 0


def test_relative_places_are_those_of_the_command_and_not_of_a_worker(
    cluster: None, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("pictures", "--output", "labels.parquet", "--limit", 12) == 0
    found = rows(tmp_path / "labels.parquet")
    assert [row["source"] for row in found] == [f"pictures/{number:03d}.png" for number in range(12)]
    assert all(row["error"] is None for row in found)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "is not empty; add --resume to go on"),
        (["--resume", "--model", "digits-int8"], "holds a run of another model"),
        (["--resume", "--conf", "0.5"], "holds a run of another --conf"),
        (["--resume", "--limit", "20"], "holds a run of another source"),
    ],
)
def test_an_output_of_another_run_is_left_alone(
    arguments: list[str],
    sentence: str,
    cluster: None,
    small_partitions: None,
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = tmp_path / "labels.parquet"
    run(folder, "--output", output, "--limit", 30)
    assert len(rows(output)) == 30
    assert (
        run(folder, "--output", output, *(arguments if "--limit" in arguments else ["--limit", "30", *arguments])) == 2
    )
    assert sentence in capsys.readouterr().err
    assert len(rows(output)) == 30


def test_every_picture_has_one_row_when_a_worker_is_killed(
    cluster: None, monkeypatch: pytest.MonkeyPatch, folder: Path, tmp_path: Path
) -> None:
    monkeypatch.setattr(partitions, "PICTURES", 2)
    output, killed = tmp_path / "labels.parquet", []

    def kill_a_worker() -> None:
        until(lambda: len(list(output.glob("part-*"))) > 1, 120)
        for process in Path("/proc").glob("[0-9]*"):
            if b"MapWorker" in (process / "cmdline").read_bytes():
                os.kill(int(process.name), signal.SIGKILL)
                killed.append(process.name)
                return

    from threading import Thread

    killer = Thread(target=kill_a_worker)
    killer.start()
    run(folder, "--output", output, "--workers", 1)
    killer.join()
    assert killed
    assert [Path(row["source"]).stem for row in rows(output)] == [f"{number:03d}" for number in range(61)]


def test_every_picture_has_one_row_when_the_driver_is_killed_and_the_run_resumed(tmp_path: Path, folder: Path) -> None:
    output = tmp_path / "labels.parquet"
    code = (
        "import sys; from stn_runtime.cluster import partitions; partitions.PICTURES = 2\n"
        "from stn_runtime.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, "run", str(folder), "--engine", "ray", "--output", str(output)]
    command += ["--workers", "1"]
    driver = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)
    until(lambda: len(list(output.glob("part-*"))) > 2, 180)
    driver.kill()
    driver.wait()
    there = len(list(output.glob("part-*")))
    done = subprocess.run([*command, "--resume"], stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1, done.stderr  # one is no picture
    assert "partitions are there already" in done.stderr
    assert 2 < there < 31
    assert [Path(row["source"]).stem for row in rows(output)] == [f"{number:03d}" for number in range(61)]


@pytest.mark.parametrize("shape", ["plain", "struct"])
def test_a_parquet_file_with_bytes_is_taken_by_row_groups(
    shape: str, cluster: None, folder: Path, tmp_path: Path
) -> None:
    data = [path.read_bytes() for path in sorted(folder.glob("0*"))] + [None]
    column = data if shape == "plain" else [None if one is None else {"bytes": one, "path": "x"} for one in data]
    parquet.write_table(pa.table({"image": column, "id": list(range(62))}), tmp_path / "in.parquet", row_group_size=25)
    assert run(tmp_path / "in.parquet", "--output", tmp_path / "out.parquet") == 1
    found = rows(tmp_path / "out.parquet")
    assert [row["frame"] for row in found] == list(range(62))
    assert len(list((tmp_path / "out.parquet").glob("part-*"))) == 3
    assert "row 61: holds no picture" in found[61]["error"]
    whole = Classifier("digits", threads=1).predict([str(path) for path in sorted(folder.glob("*.png"))])
    assert [row["top"][0]["label"] for row in found[:60]] == [prediction.label for prediction in whole]


def test_an_object_store_is_read_and_written(cluster: None, small_partitions: None, folder: Path) -> None:
    server = pytest.importorskip("moto.server", reason="needs moto: pip install 'moto[server]'")
    store = server.ThreadedMotoServer(port=0, verbose=False)
    store.start()
    try:
        _, port = store.get_host_and_port()
        query = f"?endpoint_override=127.0.0.1:{port}&scheme=http&region=us-east-1&allow_bucket_creation=true"
        system, _ = pa.fs.FileSystem.from_uri(f"s3://digits/in{query}")
        system.create_dir("digits")
        for path in sorted(folder.iterdir()):
            with system.open_output_stream(f"digits/in/{path.name}") as file:
                file.write(path.read_bytes())
        source, output = f"s3://digits/in{query}", f"s3://digits/out{query}"
        assert run(source, "--output", output) == 1
        found = parquet.read_table("digits/out", filesystem=system).to_pylist()
        assert sorted(row["source"] for row in found) == [
            f"s3://digits/in/{path.name}" for path in sorted(folder.glob("0*"))
        ]
        system.delete_file("digits/out/part-000002.parquet")
        assert run(source, "--output", output, "--resume") == 0
        again = parquet.read_table("digits/out", filesystem=system).to_pylist()
        assert sorted(map(str, again)) == sorted(map(str, found))
    finally:
        store.stop()


def test_a_dataset_of_rays_own_is_classified(cluster: None, folder: Path) -> None:
    dataset = ray.data.read_binary_files([str(path) for path in sorted(folder.glob("0*"))], include_paths=True)
    done = dataset.map_batches(
        BatchClassifier,
        fn_constructor_kwargs={"model": "digits"},
        compute=ray.data.ActorPoolStrategy(size=1),
        batch_size=16,
        num_cpus=1,
    ).take_all()
    assert len(done) == 61
    assert sorted(Path(row["source"]).name for row in done) == sorted(path.name for path in folder.glob("0*"))
    assert sum(row["error"] is not None for row in done) == 1


def test_a_batch_of_arrays_keeps_its_other_columns() -> None:
    pictures = np.zeros((3, 40, 40, 3), np.uint8)
    table = BatchClassifier("digits")({"image": pictures, "id": np.array([7, 8, 9])})
    assert table.column("id").to_pylist() == [7, 8, 9]
    assert table.column("source").to_pylist() == ["0", "1", "2"]
    wrong = BatchClassifier("digits")(
        {"image": [np.zeros((4, 4), np.float32), "text"], "source": ["a", "b"]}
    ).to_pylist()
    assert [row["error"] for row in wrong] == [
        "a: is an array of float32 (4, 4), not uint8 (H, W, 3)",
        "b: holds no picture, but str",
    ]
    with pytest.raises(ValueError, match="needs a column 'bytes' or 'image'; it has id"):
        BatchClassifier("digits")({"id": [1]})


def test_it_travels_with_its_model() -> None:
    import pickle

    classifier = BatchClassifier("digits", topk=2)
    classifier({"image": np.zeros((1, 20, 20, 3), np.uint8)})
    again = pickle.loads(pickle.dumps(classifier))
    (row,) = again({"image": np.zeros((1, 20, 20, 3), np.uint8)}).to_pylist()
    assert len(row["top"]) == 2


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["FOLDER"], "name it with --output"),
        (["FOLDER", "--output", "OUT", "--serve", "8000"], "--serve is for --engine local"),
        (["FOLDER", "--output", "OUT", "--fields", "source"], "--fields is for --engine local"),
        (["gone", "--output", "OUT"], "gone"),
        (["EMPTY", "--output", "OUT"], "has no image files"),
        (["gone.parquet", "--output", "OUT"], "gone.parquet: no such file or folder"),
        (["nfs://there", "--output", "OUT"], "nfs://there: cannot be opened"),
        (["FOLDER", "--output", "FILE"], "is a file; the output of a run on Ray is a folder"),
        (["FOLDER", "--output", "FOLDER"], "is not empty"),
        (["FOLDER", "--output", "FOLDER", "--resume"], "holds other files than those of a run"),
        (["FOLDER", "--output", "OUT", "--model", "dogits"], "no released model of that name"),
        (["FILE.parquet", "--output", "OUT"], "cannot be read as parquet"),
    ],
)
def test_what_cannot_be_is_a_sentence(
    arguments: list[str], sentence: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = {name: tmp_path / name for name in ("OUT", "EMPTY", "FILE", "FILE.parquet")} | {"FOLDER": folder}
    places["EMPTY"].mkdir()
    for name in ("FILE", "FILE.parquet"):
        places[name].write_text("text")
    assert run(*(places.get(argument, argument) for argument in arguments)) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert said.splitlines()[-1].startswith("stn: ")
    assert "Traceback" not in said
    assert not (tmp_path / "OUT").exists() or not list((tmp_path / "OUT").iterdir())


def test_options_of_a_cluster_are_for_a_cluster(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(folder), "--workers", "2"]) == 2
    assert "--address and --workers are for --engine ray" in capsys.readouterr().err
    assert main(["run", str(folder), "--output", "s3://bucket/out.jsonl"]) == 2
    assert "is an address, where only --engine ray writes" in capsys.readouterr().err


def test_tables_without_one_column_of_bytes_are_refused() -> None:
    assert picture_column(pa.schema([("id", pa.int64()), ("png", pa.binary())]), "t") == ("png", False)
    with pytest.raises(InputError, match="has 0 columns of bytes; it takes one"):
        picture_column(pa.schema([("id", pa.int64())]), "t")
    with pytest.raises(InputError, match="has 2 columns of bytes: a, b; it takes one"):
        picture_column(pa.schema([("a", pa.binary()), ("b", pa.large_binary())]), "t")


def test_the_division_changes_with_the_pictures(folder: Path) -> None:
    before = divided([str(folder)], EVERYTHING, None)
    assert before.pictures == 61
    assert divided([str(folder)], EVERYTHING, None) == before
    shutil.copy(folder / "000.png", folder / "0000.png")
    assert divided([str(folder)], EVERYTHING, None).digest != before.digest
    assert divided([str(folder)], EVERYTHING, 5).pictures == 5


def _table(path: Path, pictures: list[bytes | None], group: int = 1000) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pa.table({"png": pa.array(pictures, pa.binary())}), path, row_group_size=group)
    return path


def _taken(sources: list[str], selection: Selection = EVERYTHING, limit: int | None = None) -> list[tuple[str, int]]:
    """Return name and number of each picture that a division holds."""
    found = divided(sources, selection, limit)
    pictures = [picture for partition in found.partitions for picture in read_pictures(partition)]
    assert found.pictures == len(pictures) == sum(partition.pictures for partition in found.partitions)
    return [(Path(name).name, number) for name, number, _ in pictures]


def test_parquet_files_of_a_folder_and_of_a_pattern_are_taken_and_empty_ones_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _table(tmp_path / "shards/a.parquet", [b"x"] * 3)
    _table(tmp_path / "shards/deeper/b.parquet", [b"x"] * 2)
    _table(tmp_path / "shards/none.parquet", [])
    _table(tmp_path / "shards/_hidden.parquet", [b"x"])
    both = [("a.parquet", 0), ("a.parquet", 1), ("a.parquet", 2), ("b.parquet", 0), ("b.parquet", 1)]
    monkeypatch.chdir(tmp_path)
    for source in ("shards", f"file://{tmp_path}/shards", "shards/**/*.parquet"):
        assert sorted(_taken([source])) == both
    with pytest.raises(InputError, match="no pictures found"):
        _taken(["shards/none.parquet"])


@pytest.mark.parametrize("stride", [1, 3, 7, 100])
@pytest.mark.parametrize("limit", [None, 1, 3, 8, 50])
def test_stride_and_limit_count_the_rows_of_parquet_files(tmp_path: Path, stride: int, limit: int | None) -> None:
    names = [str(_table(tmp_path / name, [b"x"] * count, 4)) for name, count in (("a.parquet", 10), ("b.parquet", 9))]
    rows = [("a.parquet", number) for number in range(10)], [("b.parquet", number) for number in range(9)]
    expected = [*rows[0][::stride], *rows[1][::stride]][:limit]
    assert _taken(names, Selection(stride), limit) == expected


def test_a_folder_of_pictures_says_which_tables_it_leaves_out(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _table(folder / "more.parquet", [b"x"])
    assert len(_taken([str(folder)])) == 61
    assert f"holds pictures and 1 parquet file; the pictures are taken, name {folder}/more.parquet" in (
        capsys.readouterr().err
    )


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_a_name_that_is_not_utf_8_is_read_and_escaped(cluster: None, folder: Path, tmp_path: Path) -> None:
    shutil.copy(folder / "000.png", os.fsencode(folder) + b"/bad\xff.png")
    (folder / "gone.png").symlink_to("nowhere.png")
    assert run(folder, "--output", tmp_path / "out") == 1
    found = {Path(row["source"]).name: row["error"] for row in rows(tmp_path / "out")}
    assert len(found) == 63
    assert found["bad\\xff.png"] is None
    assert found["gone.png"] == f"{folder}/gone.png: cannot be read (No such file or directory)"


def test_what_a_worker_lacks_is_its_own_sentence_and_the_output_can_be_used_again(
    cluster: None, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    assert run(folder, "--output", output, "--providers", "NoSuchProvider") == 2
    said = capsys.readouterr().err
    assert "stn: execution provider NoSuchProvider is not available here; there are" in said.splitlines()[-1]
    assert "ray::" not in said
    assert run(folder, "--output", output) == 1
    assert len(rows(output)) == 61


def test_an_address_at_which_nothing_listens_is_a_sentence(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [sys.executable, "-m", "stn_runtime", "run", str(folder), "--engine", "ray", "--address", "127.0.0.1:1"]
    done = subprocess.run([*command, "--output", tmp_path / "out"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("stn: --address 127.0.0.1:1: nothing listens there (")


def test_a_local_run_points_to_the_engine_that_reads_tables_and_stores(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for source in (str(_table(tmp_path / "a.parquet", [b"x"])), "s3://bucket/pictures"):
        assert main(["run", source]) == 2
        assert f"{source}: is read with --engine ray and --output FOLDER" in capsys.readouterr().err
