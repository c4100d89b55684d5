import json
from pathlib import Path

from stn_runtime.cli import main
from stn_runtime.images.writing import write_image
from stn_training import load_dataset


def test_from_a_folder_of_images_to_results_on_a_device(tmp_path: Path) -> None:
    source = load_dataset("sklearn-digits", "all", None, tmp_path)
    for index, (image, label) in enumerate(zip(source.images.numpy()[:600], source.labels[:600], strict=True)):
        if label < 3:
            folder = tmp_path / "photos" / f"class {label}"
            folder.mkdir(parents=True, exist_ok=True)
            write_image(folder / f"{index}.png", image[:, :, 0])
    photos, run, model, results = (str(tmp_path / name) for name in ("photos", "run", "mine.onnx", "results.jsonl"))
    options = json.dumps({"image_size": 32, "output_size": 16, "width": 8})
    assert main(["train", photos, "--options", options, "--epochs", "6", "--batch-size", "16", "--output", run]) == 0
    checkpoint = f"{run}/model.safetensors"
    assert main(["evaluate", checkpoint, photos]) == 0
    assert main(["export", checkpoint, "-o", model, "--images", photos]) == 0
    assert main(["verify", model]) == 0
    assert main(["run", photos, "--model", model, "--output", results, "--save", str(tmp_path / "seen")]) == 0
    records = [json.loads(line) for line in Path(results).read_text().splitlines()]
    assert len(records) == len(list(Path(photos).rglob("*.png"))) == len(list((tmp_path / "seen").rglob("*.png")))
    right = [Path(record["source"]).parent.name == record["label"] for record in records]
    assert sum(right) / len(right) > 0.9
