"""A run: what its folder holds, how it resumes bit for bit, and which folders it refuses."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback

from hierbmd.errors import BadConfig, BadManifest, OutputUnwritable, UntrustedWeights, WrongWeights
from hierbmd.io.weights import read_weights
from hierbmd.training import run
from hierbmd.training.callbacks import Curves
from hierbmd.training.run import train


class _Stopped(BaseException):
    """A stop that nothing handles, as a kill is to a run."""


class _StopAt(Callback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step == self.step:
            raise _Stopped


def _tensors(folder: Path) -> dict[str, torch.Tensor]:
    return read_weights(folder)[0]


def _same(a: Path, b: Path) -> bool:
    first, second = _tensors(a), _tensors(b)
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def _epochs_kept(folder: Path) -> int:
    """How many epochs the checkpoint holds; 0 without one."""
    path = folder / "checkpoints" / "last.ckpt"
    return int(torch.load(path, weights_only=True)["epoch"]) + 1 if path.exists() else 0


@pytest.fixture
def stop_at(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make the next runs stop before a step; None lets them go."""
    step: list[int | None] = [None]
    original = run._trainer

    def trainer(*args: Any, **kwargs: Any) -> Any:
        made = original(*args, **kwargs)
        if step[0] is not None:
            made.callbacks.append(_StopAt(step[0]))
        return made

    monkeypatch.setattr(run, "_trainer", trainer)
    return lambda value: step.__setitem__(0, value)


def test_a_stopped_run_ends_with_the_same_weights_bit_for_bit(
    readable_dataset: Path, tmp_path: Path, tiny_settings: dict[str, Any], stop_at: Any
) -> None:
    settings = {**tiny_settings, "trainer.max_epochs": 4, "model.generator.init_args.dropout": 0.1}
    train("decompose", readable_dataset, tmp_path / "whole", overrides=settings, progress=False)
    for step in (2, 7, 13):  # in the first epoch, in the second, in the third; five steps an epoch
        stop_at(step)
        with pytest.raises(_Stopped):
            train("decompose", readable_dataset, tmp_path / "torn", overrides=settings, progress=False)
        assert not (tmp_path / "torn" / "weights.safetensors").exists()
        assert _epochs_kept(tmp_path / "torn") == step // 5
    stop_at(None)
    train("decompose", readable_dataset, tmp_path / "torn", overrides=settings, progress=False)
    assert _same(tmp_path / "whole", tmp_path / "torn")
    whole, torn = ((tmp_path / name / "curves.csv").read_text() for name in ("whole", "torn"))
    assert whole == torn


def test_a_run_folder_says_what_it_was(tiny_runs: dict[str, Path]) -> None:
    for stage, folder in tiny_runs.items():
        found = json.loads((folder / "run.json").read_text())
        assert found["stage"] == stage
        assert found["finished"] is True
        assert found["config"]["seed_everything"] == 0
        assert set(found["versions"]) >= {"hierbmd", "torch", "lightning", "python"}
        assert len(found["data_sha256"]) == 64
        assert (folder / "config.yaml").read_text().strip()
        assert list((folder / "samples").glob("*.png"))
        with (folder / "curves.csv").open() as stream:
            rows = list(csv.DictReader(stream))
        assert [int(row["epoch"]) for row in rows] == list(range(len(rows)))
        # Not the sum of the losses, for the adversary's part grows as it learns; and single epochs of so few are noisy.
        learnt = [float(row["train/bmd" if stage == "regress" else "train/l1"]) for row in rows]
        assert min(learnt[1:]) < learnt[0]


def test_no_path_of_this_machine_is_in_card_or_run(tiny_runs: dict[str, Path], readable_dataset: Path) -> None:
    for folder in tiny_runs.values():
        for name in ("card.json", "run.json"):
            assert str(readable_dataset) not in (folder / name).read_text()


def test_a_finished_run_is_left_alone(readable_dataset: Path, tmp_path: Path, tiny_settings: dict[str, Any]) -> None:
    settings = {**tiny_settings, "trainer.max_epochs": 1}
    first = train("decompose", readable_dataset, tmp_path / "run", overrides=settings, progress=False)
    stamps = {p: p.stat().st_mtime_ns for p in (tmp_path / "run").rglob("*") if p.is_file()}
    assert train("decompose", readable_dataset, tmp_path / "run", overrides=settings, progress=False) == first
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "run").rglob("*") if p.is_file()} == stamps


def test_a_run_with_other_settings_is_refused(
    readable_dataset: Path, tiny_runs: dict[str, Path], tiny_settings: dict[str, Any]
) -> None:
    with pytest.raises(BadConfig, match=r"another config.*model.generator"):
        train("decompose", readable_dataset, tiny_runs["decompose"], overrides=tiny_settings, progress=False)


def test_compression_is_set_by_yaml_and_by_flag_and_is_part_of_a_run(
    readable_dataset: Path, tmp_path: Path, tiny_settings: dict[str, Any]
) -> None:
    from hierbmd.training.augment import Compression

    cli = run.configure("decompose", [f"--config={run.config_path('full/decompose-full')}"])
    augmentation = cli.datamodule.augmentation
    assert augmentation.compression == Compression(0.5, (30, 95), (5.0, 40.0))
    assert augmentation.rotate_deg == 4.0  # what the YAML does not name stays
    settings = {**tiny_settings, "trainer.max_epochs": 1, "trainer.limit_train_batches": 1}
    train("decompose", readable_dataset, tmp_path / "run", overrides=settings, progress=False)
    # A run of a version without the setting is the run with the setting off.
    found = json.loads((tmp_path / "run" / "run.json").read_text())
    assert found["config"]["data"]["augmentation"].pop("compression") is None
    (tmp_path / "run" / "run.json").write_text(json.dumps(found))
    train("decompose", readable_dataset, tmp_path / "run", overrides=settings, progress=False)
    compressed = {**settings, "data.augmentation.compression.probability": 0.3}
    with pytest.raises(BadConfig, match=r"another config data.augmentation.compression: None -> .*0.3"):
        train("decompose", readable_dataset, tmp_path / "run", overrides=compressed, progress=False)


def test_a_folder_with_something_else_is_refused(readable_dataset: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(OutputUnwritable, match="something else"):
        train("decompose", readable_dataset, tmp_path, progress=False)
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


def test_another_data_set_is_refused_on_resume(
    readable_dataset: Path, hip_dataset: Path, tmp_path: Path, tiny_settings: dict[str, Any]
) -> None:
    settings = {**tiny_settings, "trainer.max_epochs": 1}
    train("decompose", readable_dataset, tmp_path / "run", overrides=settings, progress=False)
    with pytest.raises(BadConfig, match="another data_sha256"):
        train("decompose", hip_dataset, tmp_path / "run", overrides=settings, progress=False)


@pytest.mark.parametrize("stage", ["synthesize", "regress"])
def test_a_later_stage_needs_its_start(stage: Any, readable_dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match=r"starts from a \w+ run: .*|starts from a \w+ run \(give --from RUN\)"):
        train(stage, readable_dataset, tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_a_start_of_the_wrong_stage_is_refused(
    readable_dataset: Path, tmp_path: Path, tiny_runs: dict[str, Path]
) -> None:
    with pytest.raises(WrongWeights, match="are of stage decompose; wanted stage synthesize"):
        train("regress", readable_dataset, tmp_path / "run", start_from=tiny_runs["decompose"], progress=False)


def test_a_checkpoint_is_no_start(readable_dataset: Path, tmp_path: Path, tiny_runs: dict[str, Path]) -> None:
    checkpoint = tiny_runs["decompose"] / "checkpoints" / "last.ckpt"
    with pytest.raises(UntrustedWeights, match="only safetensors with a matching card"):
        train("synthesize", readable_dataset, tmp_path / "run", start_from=checkpoint, progress=False)


def test_a_missing_data_set_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises((BadConfig, BadManifest)):
        train("decompose", tmp_path / "nowhere", tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_curves_drop_the_epochs_that_are_trained_again(tmp_path: Path) -> None:
    (tmp_path / "curves.csv").write_text("epoch,step\n0,5\n1,10\n2,15\n")
    curves = Curves(tmp_path)

    class _At:
        current_epoch = 2

    curves.on_train_start(_At(), None)  # type: ignore[arg-type]
    assert [row["epoch"] for row in curves.rows] == ["0", "1"]
