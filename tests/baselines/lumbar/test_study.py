"""A study of lumbar radiographs: the stages with the spine's configurations, the baseline that is made for it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from hierbmd.cli import study
from hierbmd.cli._systems import SYSTEMS
from hierbmd.cli.main import main
from hierbmd.data.halves import HalfFrame
from hierbmd.io.dataset import read_dataset, write_dataset, write_pair

SPINE = {stage: (f"spine/{stage}",) for stage in ("decompose", "synthesize", "regress")}


def test_spines_get_their_own_configurations_and_are_passed_twice_as_often(
    lumbar_dataset: Path, hip_dataset: Path, tmp_path: Path
) -> None:
    options = study.Options(out=tmp_path, sizes=(), epochs=(4, 4, 2), overlays=("hierarchical.regress=mine",))
    for data, times in ((hip_dataset, 1), (lumbar_dataset, 2)):
        planned = list(study.planned(read_dataset(data), options))
        assert [sum(training.epochs) for training in planned] == [10 * times] * len(SYSTEMS)
        spine = dict.fromkeys(("decompose", "synthesize", "regress"), ()) if times == 1 else SPINE
        wanted = ({**spine, "regress": (*spine["regress"], "mine")}, {"regress": spine["regress"]})
        for training, overlays in zip((planned[0], planned[2]), wanted, strict=True):
            assert training.overlays == {stage: names for stage, names in overlays.items() if names}


def test_a_system_of_another_site_is_refused_before_anything_is_made(
    hip_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for data in ([], ["--data", str(hip_dataset)]):
        assert main(["study", "--out", str(tmp_path / "study"), "--baselines", "lumbar_femur", *data]) == 1
        error = capsys.readouterr().err
        assert "reads lumbar radiographs, not the total_hip" in error
        assert error.count("\n") == 1
        assert not (tmp_path / "study").exists()


@pytest.fixture
def large_dataset(lumbar_dataset: Path, tmp_path: Path) -> Path:
    """`lumbar_dataset` with every pixel four times, large enough for a discriminator."""
    dataset = read_dataset(lumbar_dataset)
    for record in dataset.records:
        pair = dataset.load(record)
        images = ("radiograph", "bones", "region", "region_mask")
        large = {name: getattr(pair, name).repeat(2, axis=-1).repeat(2, axis=-2) for name in images}
        write_pair(tmp_path / "large", replace(pair, **large))
    card = replace(dataset.card, frame=HalfFrame((48, 64), (3.0, 3.0)))
    write_dataset(tmp_path / "large", card, dataset.records)
    return tmp_path / "large"


@pytest.mark.slow
def test_a_small_study_has_it_in_the_table(large_dataset: Path, tmp_path: Path) -> None:
    """Through the command: the three of the hierarchy, the lumbar-and-femur system, the mean."""
    small = ["--sizes", "16", "--epochs", "1,1,1", "--workers", "1", "--bootstrap-samples", "100", "--quick"]
    words = ["study", "--out", str(tmp_path), "--data", str(large_dataset), "--baselines", "lumbar_femur", *small]
    assert main(words) == 0
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert list(metrics["systems"]) == [*SYSTEMS, "lumbar_femur", "mean_predictor"]
    assert metrics["region"] == "lumbar_l1_l4"
    assert metrics["systems"]["lumbar_femur"]["auc_osteoporosis"] is not None
    page = (tmp_path / "report.html").read_text()
    assert "one row a patient)" in page
    assert " hip" not in page
