"""One line a record, whatever is in a name."""

import csv
import io
import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stn_runtime import InputError, Prediction, Score
from stn_runtime.records.record import Record
from stn_runtime.records.results_file import ResultsFile
from stn_runtime.records.writers import CSV_COLUMNS, Csv, JsonLines, Readable
from stn_runtime.sources.done import Done

NASTY = ["a,b.png", "new\nline.png", 'quo"te.png', "größe 写.png", "caf\udce9.png", "tab\t.png", "\x1b[31m.png", ""]


def _prediction(**changes: Any) -> Prediction:  # noqa: ANN401
    values = {
        "label": "dark",
        "confidence": 0.75,
        "top": (Score("dark", 0.75), Score("bright", 0.25)),
        "theta": (0.5, 0.0, 0.25),
        "outline": np.array([[[0.126, 1.0], [2.5, 3.0]]], np.float32),
        "rectified": None,
        "latency_ms": {"decode": 1.23456, "infer": 2.0},
        "probabilities": np.array([0.75, 0.25], np.float32),
    }
    return Prediction(**(values | changes))


def _record(source: str = "a.png", **changes: Any) -> Record:  # noqa: ANN401
    values = {"frame": 3, "time": 1.5, "prediction": _prediction()}
    return Record(source, **(values | changes))


def _strict(text: str) -> dict[str, Any]:
    """Parse as every other JSON reader does: NaN and Infinity are no JSON."""

    def refuse(name: str) -> None:
        raise ValueError(f"{name} is not JSON")

    parsed: dict[str, Any] = json.loads(text, parse_constant=refuse)
    return parsed


def _written(kind: type, *records: Record) -> str:
    stream = io.StringIO(newline="")
    writer = kind(stream)
    for record in records:
        writer.write(record)
    return stream.getvalue()


def test_a_json_record_has_the_fields_of_the_design() -> None:
    assert _strict(_written(JsonLines, _record())) == {
        "source": "a.png",
        "frame": 3,
        "time": 1.5,
        "label": "dark",
        "confidence": 0.75,
        "rejected": False,
        "top": [{"label": "dark", "probability": 0.75}, {"label": "bright", "probability": 0.25}],
        "theta": [0.5, 0.0, 0.25],
        "outline": [[[0.13, 1.0], [2.5, 3.0]]],
        "uncertain": None,
        "latency_ms": {"decode": 1.235, "infer": 2.0},
    }


def test_a_failed_frame_is_a_record_with_an_error() -> None:
    record = _record(prediction=None, time=None, error="a.png: is empty (0 bytes)")
    assert _strict(_written(JsonLines, record)) == {
        "source": "a.png",
        "frame": 3,
        "time": None,
        "error": "a.png: is empty (0 bytes)",
    }


def test_an_unsure_record_has_no_label_but_its_confidence() -> None:
    fields = _record(sure=False).fields()
    assert fields["label"] is None
    assert fields["confidence"] == 0.75
    assert fields["top"][0]["label"] == "dark"


@pytest.mark.parametrize("sure", [True, False])
def test_a_rejected_record_has_no_label_whatever_its_confidence(sure: bool) -> None:
    record = _record(sure=sure, rejected=True)
    fields = record.fields()
    assert (fields["label"], fields["rejected"], fields["confidence"]) == (None, True, 0.75)
    assert record.missing_label == "no label"


@pytest.mark.parametrize("name", NASTY)
def test_json_keeps_any_name_on_one_ascii_line(name: str) -> None:
    text = _written(JsonLines, _record(name), _record("b"))
    assert text.isascii()
    assert text.count("\n") == 2
    assert [_strict(line)["source"] for line in text.splitlines()] == [name, "b"]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_still_json(value: float) -> None:
    outline = np.array([[[value, 1.0], [2.5, 3.0]]], np.float32)  # a homography may send a point to infinity
    assert _strict(_written(JsonLines, _record(prediction=_prediction(outline=outline))))["label"] == "dark"


def test_csv_has_a_header_and_json_within_cells() -> None:
    (row,) = csv.DictReader(io.StringIO(_written(Csv, _record()), newline=""))
    assert tuple(row) == CSV_COLUMNS
    assert (row["source"], row["frame"], row["time"], row["label"], row["error"]) == ("a.png", "3", "1.5", "dark", "")
    assert json.loads(row["top"])[1] == {"label": "bright", "probability": 0.25}
    assert json.loads(row["outline"]) == [[[0.13, 1.0], [2.5, 3.0]]]


def test_a_csv_row_of_a_failed_frame_has_its_error() -> None:
    record = _record(prediction=None, error="a.png: is empty, really")
    (row,) = csv.DictReader(io.StringIO(_written(Csv, record), newline=""))
    assert (row["label"], row["error"]) == ("", "a.png: is empty, really")


@pytest.mark.parametrize(
    "name",
    [
        *NASTY,
        pytest.param(
            "carriage\rreturn.png",
        ),
    ],
)
def test_csv_keeps_any_name_in_its_cell(name: str) -> None:
    rows = list(csv.DictReader(io.StringIO(_written(Csv, _record(name), _record("b")), newline="")))
    assert [row["source"] for row in rows] == [name, "b"]


@pytest.mark.parametrize(
    ("record", "line"),
    [
        (_record(time=None), "a.png: dark  75.0%"),
        (_record(), "a.png #3: dark  75.0%"),
        (_record(sure=False, time=None), "a.png: unsure (dark?)  75.0%"),
        (_record(rejected=True, time=None), "a.png: no label (dark)  75.0%"),
        (_record(prediction=None, time=None, error="a.png: is empty"), "a.png: error: is empty"),
        (_record(prediction=None, time=None, error=None), "a.png: error: "),
        (_record("new\nline\x1b[2J", time=None), "new\\nline\\x1b[2J: dark  75.0%"),
        (_record("caf\udce9", time=None), "caf\\udce9: dark  75.0%"),
    ],
)
def test_a_readable_record_is_one_short_line(record: Record, line: str) -> None:
    assert _written(Readable, record) == line + "\n"


def test_a_terminal_that_lacks_letters_gets_escapes() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    Readable(stream).write(_record("größe 写.png", time=None))
    assert raw.getvalue() == b"gr\\xf6\\xdfe \\u5199.png: dark  75.0%\n"


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".JSONL", ".CSV"])
def test_the_suffix_says_the_format(tmp_path: Path, suffix: str, undecodable: str) -> None:
    with ResultsFile(tmp_path / f"results{suffix}") as writer:
        writer.write(_record(f"{undecodable},größe\n.png"))
    text = (tmp_path / f"results{suffix}").read_bytes().decode("utf-8")
    assert ("source,frame" in text) is (suffix.lower() == ".csv")
    assert "\r" not in text


@pytest.mark.parametrize("name", ["results.txt", "results", "results.json", "results.jsonl.gz"])
def test_another_suffix_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=r": results are written as \.jsonl or \.csv$"):
        ResultsFile(tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"x\.csv: cannot be written \(there is no folder .*missing\)$"):
        ResultsFile(tmp_path / "missing" / "below" / "x.csv")
    (tmp_path / "y.csv").mkdir()
    with pytest.raises(InputError, match=r"y\.csv: cannot be written \(Is a directory\)$"):
        ResultsFile(tmp_path / "y.csv")


@pytest.mark.parametrize("open_writer", [JsonLines, Csv, Readable])
def test_each_record_is_flushed_whole(open_writer: Callable[..., Any]) -> None:
    writes: list[str] = []

    class Stream(io.StringIO):
        def flush(self) -> None:
            writes.append(self.getvalue())

    writer = open_writer(Stream())
    for _ in range(3):
        writer.write(_record())
    assert all(text.endswith("\n") for text in writes)
    assert len(writes) >= 3


# --- going on with the results of an interrupted run

NAMES = ["a.jpg", 'b "c".jpg', "d\ne.jpg", "f\r.jpg", "g,h.jpg", "\udcff.jpg", "\u4e2d.jpg", "source"]


def test_what_is_done_is_counted_by_name() -> None:
    done = Done([("b", 0), ("a", 0), ("b", 7), ("größe\udcff", 0)])
    assert done.records == 4
    assert [done.count(name) for name in ("a", "b", "c", "", "größe\udcff", "größe\\udcff")] == [1, 2, 0, 0, 1, 1]
    assert [done.last(name) for name in ("a", "b", "c")] == [0, 7, -1]
    assert [Done().records, Done().count("a"), Done().last("a")] == [0, 0, -1]


def test_names_that_are_done_take_a_few_bytes_each() -> None:
    tracemalloc.start()
    done = Done((f"/some/folder/with/a/long/name/{number:08}.jpg", 0) for number in range(50_000))
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert done.count("/some/folder/with/a/long/name/00049999.jpg") == 1
    assert kept < 20 * 50_000
    assert peak < 50 * 50_000


def _write_all(path: Path, names: list[str], resume: bool) -> Done:
    with ResultsFile(path, resume) as results:
        for name in names:
            if not results.done.count(name):
                results.write(Record(name, 0, None, None, f"{name}: no"))
    return results.done


@pytest.mark.parametrize("suffix", [".jsonl", ".csv"])
def test_results_cut_at_any_byte_are_completed_without_loss_or_repetition(tmp_path: Path, suffix: str) -> None:
    whole, cut = tmp_path / f"whole{suffix}", tmp_path / f"cut{suffix}"
    _write_all(whole, NAMES, resume=False)
    data = whole.read_bytes()
    for length in range(len(data) + 1):
        cut.write_bytes(data[:length])
        done = _write_all(cut, NAMES, resume=True)
        assert cut.read_bytes() == data, length
    assert done.records == len(NAMES)


@pytest.mark.parametrize("suffix", [".jsonl", ".csv"])
def test_without_resume_old_results_are_gone(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x{suffix}"
    _write_all(path, NAMES, resume=False)
    assert _write_all(path, NAMES[:1], resume=False).records == 0
    assert len(path.read_text(encoding="utf-8").splitlines()) == (1 if suffix == ".jsonl" else 2)


@pytest.mark.parametrize(("name", "text"), [("x.jsonl", "not json\n"), ("x.jsonl", "[1]\n"), ("x.csv", "a,b\n1,2\n")])
def test_a_file_of_something_else_is_not_resumed_and_not_touched(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(
        InputError, match="was not written by 'stn run', or is damaged, so it cannot be resumed; give another file"
    ):
        ResultsFile(tmp_path / name, resume=True)
    assert (tmp_path / name).read_text(encoding="utf-8") == text


def test_a_stray_quote_in_a_table_is_refused_and_nothing_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    _write_all(path, [f"{number}.png" for number in range(40)], resume=False)
    lines = path.read_text().splitlines(keepends=True)
    damaged = "".join([*lines[:4], '"' + lines[4], *lines[5:]])
    path.write_text(damaged)
    with pytest.raises(InputError, match=r"x\.csv: was not written by 'stn run', or is damaged"):
        ResultsFile(path, resume=True)
    assert path.read_text() == damaged


@pytest.mark.parametrize("cell", ["x" * 200_000, '"' + 200_000 * "x" + '"'])
def test_a_long_cell_is_no_traceback(tmp_path: Path, cell: str) -> None:
    path = tmp_path / "x.csv"
    _write_all(path, ["a.png"], resume=False)
    with path.open("a") as stream:
        stream.write(f"{cell},0{',' * (len(CSV_COLUMNS) - 2)}\n")
    with ResultsFile(path, resume=True) as results:
        assert results.done.records == 2


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="plays a full disk")
def test_a_full_disk_is_one_sentence_with_the_name_of_the_file() -> None:
    full = open("/dev/full", "w")  # noqa: SIM115  (closing it fails too)
    with pytest.raises(InputError, match=r"^/dev/full: cannot be written \(No space left on device\)$"):
        JsonLines(full).write(Record("x.png", 0, None, None, "torn"))
    with pytest.raises(OSError, match="No space left"):
        full.close()


def test_a_file_that_another_run_writes_is_refused_and_kept(tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    path = tmp_path / "x.jsonl"
    results = ResultsFile(path)
    results.write(Record("a.png", 0, None, None, "torn"))
    before = path.read_text()
    for resume in (False, True):
        with pytest.raises(InputError, match=r"x\.jsonl: is being written by another run; give another file$"):
            ResultsFile(path, resume)
    assert path.read_text() == before
    results.close()
    with ResultsFile(path, resume=True) as results:
        assert results.done.records == 1


# --- some fields


def test_chosen_fields_alone_are_written_and_an_error_is_never_lost() -> None:
    stream = io.StringIO()
    writer = JsonLines(stream, ["label", "source"])
    writer.write(_record())
    writer.write(_record(prediction=None, error="a.png: is empty"))
    writer.write(_record(prediction=None, event="source_lost", error="gone"))
    assert [_strict(line) for line in stream.getvalue().splitlines()] == [
        {"label": "dark", "source": "a.png"},
        {"source": "a.png", "error": "a.png: is empty"},
        {"source": "a.png", "event": "source_lost", "error": "gone"},
    ]


def test_a_table_has_the_chosen_columns_in_their_order_and_those_of_errors() -> None:
    stream = io.StringIO(newline="")
    writer = Csv(stream, fields=["confidence", "source", "error"])
    writer.write(_record())
    writer.write(_record(prediction=None, error="is empty"))
    assert stream.getvalue() == "confidence,source,error,event\n0.75,a.png,,\n,a.png,is empty,\n"


def test_a_field_that_records_lack_is_named() -> None:
    with pytest.raises(ValueError, match=r"^records have no field 'lable'; they have source, frame, "):
        JsonLines(io.StringIO(), ["lable"])


@pytest.mark.parametrize("suffix", [".jsonl", ".csv"])
@pytest.mark.parametrize("fields", [("label", "frame", "source"), ("frame", "error", "source", "top")])
def test_a_file_of_some_fields_cut_at_any_byte_is_completed(
    tmp_path: Path, suffix: str, fields: tuple[str, ...]
) -> None:
    whole, cut = tmp_path / f"whole{suffix}", tmp_path / f"cut{suffix}"

    def complete(path: Path, resume: bool) -> None:
        with ResultsFile(path, resume, fields) as results:
            for name in NAMES:
                if not results.done.count(name):
                    results.write(_record(name, frame=0))

    complete(whole, resume=False)
    data = whole.read_bytes()
    for end in range(len(data)):
        cut.write_bytes(data[:end])
        complete(cut, resume=True)
        assert cut.read_bytes() == data, end


def test_a_table_is_not_resumed_with_other_columns(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    _write_all(path, NAMES, resume=False)
    before = path.read_bytes()
    told = rf"x\.csv: has the columns {','.join(CSV_COLUMNS)}; resume it with --fields of the same$"
    with pytest.raises(InputError, match=told):
        ResultsFile(path, resume=True, fields=("source", "frame"))
    assert path.read_bytes() == before


def test_a_file_is_not_resumed_without_the_fields_that_tell_what_is_done(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"is resumed by the fields source and frame; choose them too$"):
        ResultsFile(tmp_path / "x.jsonl", resume=True, fields=("source", "label"))
    assert not (tmp_path / "x.jsonl").exists()
