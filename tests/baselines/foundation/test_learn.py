"""What each strategy trains and saves, how a run resumes, and what shuffled labels give."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage, stats

from hierbmd.baselines.foundation import fit, load
from hierbmd.baselines.foundation.base import load_base, read_base
from hierbmd.baselines.foundation.figures import read_images
from hierbmd.baselines.foundation.learn import ADAPTER_FOLDER
from hierbmd.baselines.foundation.network import CLASSES, FoundationNet, LoraSettings
from hierbmd.data.density import REFERENCES
from hierbmd.data.splits import pixels_sha256
from hierbmd.errors import BadConfig
from hierbmd.evaluation.cases import half_of, predicted_cases
from hierbmd.evaluation.screening import auc_delong
from hierbmd.io.dataset import read_dataset, write_dataset, write_pair, write_view
from hierbmd.io.weights import read_weights
from hierbmd.predict import load_predictor
from hierbmd.training import loop

WIDTH, LAYERS, RANK = 16, 2, 4
HEAD = (2 * WIDTH + 1) * (len(CLASSES) + 1)


@pytest.mark.parametrize("name", ["random-dinov2", "random-clip", "random-vit", "random-dinov2-registers"])
def test_what_learns_is_counted_for_each_class(name: str, tiny_base: Any) -> None:
    base = read_base(tiny_base(name), name=name, aspect="pad")
    nets = {
        kind: FoundationNet(load_base(base), base.processing, kind, LoraSettings(rank=RANK))
        for kind in ("linear", "lora", "full")
    }
    assert nets["linear"].trainable_parameters() == HEAD
    # Queries and values of each layer, a (rank x width) and a (width x rank) matrix each.
    assert nets["lora"].trainable_parameters() == HEAD + LAYERS * 2 * 2 * RANK * WIDTH
    everything = sum(p.numel() for p in nets["linear"].backbone.parameters())
    unused = {"random-dinov2": WIDTH, "random-dinov2-registers": WIDTH, "random-clip": 2 * WIDTH}
    pooler = WIDTH * WIDTH + WIDTH
    assert nets["full"].trainable_parameters() == HEAD + everything - unused.get(name, pooler)
    images = torch.rand(2, 1, 64, 32)
    with torch.no_grad():
        assert nets["lora"].features(images).shape == (2, 2 * WIDTH)
        # Fresh adapters change nothing.
        assert torch.allclose(nets["lora"].features(images), nets["linear"].features(images), atol=1e-6)


def test_adapters_and_head_are_saved_alone_and_load_on_the_base(lora_run: Path, low_dataset: Path) -> None:
    tensors, card = read_weights(lora_run)
    assert {name.split(".")[0] for name in tensors} == {"adapter", "head"}
    assert {name.split(".")[-2] for name in tensors if name.startswith("adapter")} == {"lora_A", "lora_B"}
    assert sum(t.numel() for name, t in tensors.items() if "feature_" not in name and "bmd_" not in name) == (
        HEAD + LAYERS * 2 * 2 * RANK * WIDTH
    )
    assert card.training["trainable_parameters"] == HEAD + LAYERS * 2 * 2 * RANK * WIDTH
    assert any(t.abs().max() > 0 for name, t in tensors.items() if "lora_B" in name), "the adapters have learnt nothing"
    dataset = read_dataset(low_dataset)
    predictor = load_predictor(lora_run)
    prediction = predictor.predict_half(half_of(dataset.load(dataset.records[0]), dataset))
    assert prediction.density is None
    assert prediction.bmd.interval_g_cm2 is not None
    assert sum(prediction.findings["class_probabilities"].values()) == pytest.approx(1.0)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_the_adapters_load_in_peft_without_this_package(lora_run: Path, tiny_base: Any) -> None:
    from peft import PeftModel

    base = read_base(tiny_base("random-dinov2"), name="x", aspect="pad")
    theirs = PeftModel.from_pretrained(load_base(base), str(lora_run / ADAPTER_FOLDER)).eval()
    ours = load(lora_run).net
    images = ours.processing.prepare(torch.rand(1, 1, 64, 32))
    with torch.no_grad():
        expected = ours.backbone(pixel_values=images).last_hidden_state
        assert torch.allclose(theirs(pixel_values=images).last_hidden_state, expected, atol=1e-6)


def test_full_fine_tuning_saves_all_and_needs_no_base(
    low_dataset: Path, tiny_options: Any, tiny_base: Any, tmp_path: Path
) -> None:
    own = tmp_path / "base"
    own.mkdir()
    for path in tiny_base("random-vit").iterdir():
        (own / path.name).write_bytes(path.read_bytes())
    fit(low_dataset, tmp_path / "run", tiny_options("full", epochs=1, backbone=own))
    for path in own.iterdir():
        path.unlink()
    net = load(tmp_path / "run").net
    stored, _ = read_weights(tmp_path / "run")
    assert all(torch.equal(stored[name], tensor) for name, tensor in net.tensors().items())


class _Stopped(BaseException):
    """A stop that nothing handles, as a kill is to a run."""


def test_a_stopped_run_ends_with_the_same_weights_bit_for_bit(
    low_dataset: Path, tiny_options: Any, lora_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class StopAt(loop.StepSeed):
        def on_train_batch_start(self, trainer: Any, *args: Any) -> None:
            super().on_train_batch_start(trainer, *args)
            if trainer.global_step == 4:  # in the second epoch; three steps an epoch
                raise _Stopped

    torn = tmp_path / "torn"
    with monkeypatch.context() as patched:
        patched.setattr(loop, "StepSeed", StopAt)
        with pytest.raises(_Stopped):
            fit(low_dataset, torn, tiny_options("lora"))
    assert not (torn / "weights.safetensors").exists()
    kept = torch.load(torn / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert not any("base_layer" in name for name in kept), "a checkpoint holds the frozen base"
    fit(low_dataset, torn, tiny_options("lora"))
    whole, resumed = read_weights(lora_run)[0], read_weights(torn)[0]
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    with pytest.raises(BadConfig, match=r"another config .*lora_alpha"):
        fit(low_dataset, torn, tiny_options("lora", lora_alpha=3))


@pytest.fixture(scope="module")
def noisy_dataset(readable_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """72 made-up patients (32 train, 8 val, 32 test), one image each: bone as bright as its BMD under a random veil."""
    dataset, folder = read_dataset(readable_dataset), tmp_path_factory.mktemp("noisy")
    template = dataset.load(dataset.records[0])
    random, records = np.random.default_rng(5), []
    for number in range(72):
        name, bmd = f"n{number:02d}", float(random.uniform(0.4, 0.9))
        veil = ndimage.gaussian_filter(random.normal(size=template.radiograph.shape), 4.0)
        image = template.radiograph + template.region / template.record.bmd_g_cm2 * (bmd - template.record.bmd_g_cm2)
        split = "train" if number < 32 else "val" if number < 40 else "test"
        record = replace(template.record, pair_id=name, subject=name, bmd_g_cm2=bmd, split=split)
        pixels = (image + 0.1 / veil.std() * veil).astype(np.float32)
        pixels[:4] = 6.0
        records.append(replace(record, radiograph_sha256=pixels_sha256(pixels)))
        write_pair(folder, replace(template, record=records[-1], radiograph=pixels))
    write_dataset(folder, dataset.card, records)
    return folder


def _auc(dataset_folder: Path, run: Path) -> Any:
    """AUC for osteoporosis of a run's class probabilities on the test patients."""
    dataset = read_dataset(dataset_folder)
    records = dataset.of_split("test")
    risk, _ = read_images(load(run), [dataset.load(record).radiograph for record in records])
    return auc_delong(risk, [REFERENCES["nhanes3-female-total-hip"].t_score(r.bmd_g_cm2) <= -2.5 for r in records])


def test_shuffled_labels_teach_nothing(noisy_dataset: Path, tiny_options: Any, tmp_path: Path) -> None:
    dataset = read_dataset(noisy_dataset)
    options = tiny_options("linear", epochs=8, patience=0)
    bmd = {r.subject: r.bmd_g_cm2 for r in dataset.of_split("train", "val")}
    found = []
    for seed in range(6):
        drawn = dict(zip(bmd, np.random.default_rng(seed).permutation(list(bmd.values())), strict=True))
        records = tuple(replace(r, bmd_g_cm2=float(drawn.get(r.subject, r.bmd_g_cm2))) for r in dataset.records)
        write_view(tmp_path / f"shuffled{seed}", replace(dataset, records=records))
        fit(tmp_path / f"shuffled{seed}", tmp_path / f"run{seed}", options)
        found.append(_auc(noisy_dataset, tmp_path / f"run{seed}").value)
    fit(noisy_dataset, tmp_path / "true", options)
    true = _auc(noisy_dataset, tmp_path / "true")
    # One shuffle leans one way by chance, and the test patients' interval does not know that: several do not.
    interval = stats.ttest_1samp(found, 0.5).confidence_interval(0.95)
    assert interval.low <= 0.5 <= interval.high
    assert max(np.mean(found), 0.5) < true.low


def test_patients_known_to_be_younger_than_50_teach_no_class(
    low_dataset: Path, tiny_options: Any, tmp_path: Path
) -> None:
    dataset = read_dataset(low_dataset)
    young = tmp_path / "young"
    write_view(young, replace(dataset, records=tuple(replace(r, age=30.0) for r in dataset.records)))
    card = fit(young, tmp_path / "run", tiny_options("linear", epochs=2))
    assert card.training["train_classes"] == {
        "normal": 0,
        "low bone mass (osteopenia)": 0,
        "osteoporosis": 0,
        "no class": 40,
    }
    tensors, _ = read_weights(tmp_path / "run")
    assert not tensors["head.classes.weight"].any()
    assert tensors["head.bmd.weight"].any()


def test_every_image_is_read_by_the_common_evaluation(lora_run: Path, low_dataset: Path) -> None:
    dataset = read_dataset(low_dataset)
    records = dataset.of_split("val")
    cases = list(predicted_cases(load_predictor(lora_run), dataset, records))
    assert [case.record.pair_id for case in cases] == [record.pair_id for record in records]
