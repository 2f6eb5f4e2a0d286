"""Training of a foundation model on a prepared data set: scales, the loop, and what is exported."""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from hierbmd.baselines.foundation import NAME, Options
from hierbmd.baselines.foundation.base import RANDOM_NOTE, Base, load_base, require_extra
from hierbmd.baselines.foundation.network import CLASSES, FoundationNet, LoraSettings
from hierbmd.baselines.foundation.predictor import BASE_FOLDER
from hierbmd.baselines.foundation.presets import found_base
from hierbmd.baselines.foundation.random_base import RANDOM_BASES
from hierbmd.baselines.registry import Progress
from hierbmd.data.card import BASELINE, IntensityNormalisation, ModelCard, Readout, of_data
from hierbmd.data.density import T_SCORE_FOR, Reference, class_of, reference_for, reference_name
from hierbmd.data.pairs import PairRecord
from hierbmd.evaluation.conformal import conformal_half_width
from hierbmd.io.atomic import write_json
from hierbmd.io.run_folder import RUN_FILE, run_is_finished
from hierbmd.io.weights import read_card, write_weights
from hierbmd.training.augment import Augmentation
from hierbmd.training.data import TRAIN, VALIDATION, EpochShuffle, PairData
from hierbmd.training.loop import Learner, fit_learner

ADAPTER_FOLDER = "adapter"
"""The adapters in peft's own format, for use without this package."""

_NO_CLASS = -100
_VERSIONS_OF = ("hierbmd", "torch", "lightning", "transformers", "peft", "numpy")
_LOG = logging.getLogger(__name__)


def fit_foundation(data: Path, out: Path, options: Options, *, progress: Progress) -> ModelCard:
    """As `hierbmd.baselines.foundation.fit`."""
    require_extra()
    out = Path(out)
    pairs = _pairs(data, options)
    reference = reference_for(options.reference, pairs.dataset.card.region)
    with _base(options) as base:
        identity = _identity(base, pairs, options)
        if run_is_finished(out, identity):
            _LOG.info("%s is finished already: %s", NAME, out)
            return read_card(out)
        write_json(out / RUN_FILE, {**identity, "finished": False})
        if not base.source:
            shutil.copytree(base.folder, out / BASE_FOLDER, dirs_exist_ok=True)
        net = _begun(base, options)
    device = device_of(options.loop.accelerator)
    features = _set_scales(net, pairs, device, progress)
    records = (*pairs.records(TRAIN), *pairs.real(VALIDATION))
    learner = _Learner(net, _labels(records, reference), options)
    with progress(f"{options.strategy} on {base.name}") as report:
        loaders = _loaders(pairs, features, options)
        fit_learner(learner, loaders, out, options.loop_at_its_rate, seed=options.seed, report=report)
    card = _card(net, pairs, base, options, identity, _readout(net, pairs, device))
    if options.strategy == "lora":
        # Where the weights came from, not the folder that they were read from.
        net.backbone.peft_config["default"].base_model_name_or_path = base.source or BASE_FOLDER
        net.backbone.save_pretrained(out / ADAPTER_FOLDER, save_embedding_layers=False)
    card = write_weights(out, net.tensors(), card)
    write_json(out / RUN_FILE, {**identity, "finished": True})
    return card


def device_of(accelerator: str) -> str:
    """The device that an accelerator of the options stands for."""
    return "cuda" if accelerator != "cpu" and torch.cuda.is_available() else "cpu"


class _Learner(Learner):
    """A foundation model with its two losses; labels by pair, one of CLASSES or none."""

    weights: Tensor

    def __init__(self, net: FoundationNet, labels: Mapping[str, int], options: Options) -> None:
        super().__init__()
        self.net, self.labels = net, labels
        self.class_weight, self.bmd_weight = options.class_weight, options.bmd_weight
        counts = torch.bincount(
            torch.tensor([x for x in labels.values() if x >= 0], dtype=torch.long), minlength=len(CLASSES)
        )
        even = counts.sum() / (counts.clamp_min(1) * len(CLASSES))
        self.register_buffer("weights", even if options.balanced else torch.ones(len(CLASSES)))

    def train(self, mode: bool = True) -> _Learner:
        """A backbone that does not learn keeps what it does when it is used."""
        super().train(mode)
        if self.net.strategy == "linear":
            self.net.backbone.eval()
        return self

    def losses(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """Cross entropy of the classes and the BMD's smooth absolute error in training SDs, and their weighted sum."""
        logits, bmd = self.net.head(batch["features"]) if "features" in batch else self.net(batch["radiograph"])
        labels = torch.tensor([self.labels[name] for name in batch["pair_id"]], device=logits.device)
        parts = {"class": functional.cross_entropy(logits, labels, self.weights, reduction="sum")}
        parts["class"] = parts["class"] / (labels != _NO_CLASS).sum().clamp_min(1)
        sd = self.net.head.bmd_sd
        parts["bmd"] = functional.smooth_l1_loss(bmd / sd, batch["bmd"] / sd)
        return {**parts, "loss": self.class_weight * parts["class"] + self.bmd_weight * parts["bmd"]}


class _Features(TorchDataset[dict[str, Any]]):
    """Features (n, width) that are computed once, with the records that they are of."""

    def __init__(self, features: Tensor, records: Sequence[PairRecord]) -> None:
        self.features, self.records = features, records

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, draw: int | tuple[int, int]) -> dict[str, Any]:
        index = draw[0] if isinstance(draw, tuple) else draw
        record = self.records[index]
        bmd = torch.tensor(record.bmd_g_cm2, dtype=torch.float32)
        return {"features": self.features[index], "bmd": bmd, "pair_id": record.pair_id}


def _pairs(data: Path, options: Options) -> PairData:
    fixed = options.strategy == "linear" or not options.augment
    none = Augmentation(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    return PairData(
        str(data),
        batch_size=options.batch_size,
        augmentation=none if fixed else Augmentation(),
        normalisation=IntensityNormalisation(clip=0.0),
        seed=options.seed,
    )


@contextmanager
def _base(options: Options) -> Iterator[Base]:
    """The base model that the options name; one of random weights is in a folder that goes away."""
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary) / options.backbone if options.backbone in RANDOM_BASES else None
        yield found_base(options.backbone, options.revision, aspect=options.aspect, seed=options.seed, write_to=place)


def _begun(base: Base, options: Options) -> FoundationNet:
    lora = LoraSettings(options.lora_rank, options.lora_alpha, options.lora_dropout, options.lora_targets)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        return FoundationNet(load_base(base), base.processing, options.strategy, lora)


def _set_scales(net: FoundationNet, pairs: PairData, device: str, progress: Progress) -> dict[str, Tensor]:
    """Features of the training and validation images, by split; the head takes over the training images' scales."""
    found = {}
    net.to(device).eval()
    for split, records in ((TRAIN, pairs.records(TRAIN)), (VALIDATION, pairs.real(VALIDATION))):
        rows: list[Tensor] = []
        with progress(f"features of {split} images") as report, torch.inference_mode():
            for batch in pairs.loader_of(records) if records else ():
                rows += net.features(batch["radiograph"].to(device)).cpu()
                report(len(rows), len(records))
        found[split] = torch.stack(rows) if rows else torch.empty(0)
    bmd = torch.tensor([record.bmd_g_cm2 for record in pairs.records(TRAIN)], dtype=torch.float32)
    net.cpu().head.set_scales(found[TRAIN], bmd)
    return found


def _loaders(pairs: PairData, features: Mapping[str, Tensor], options: Options) -> tuple[DataLoader[Any], Any]:
    if options.strategy != "linear":
        return pairs.train_dataloader(), pairs.val_dataloader()
    train, held_out = _Features(features[TRAIN], pairs.records(TRAIN)), pairs.real(VALIDATION)
    sampler = EpochShuffle(len(train), options.seed)
    training: DataLoader[Any] = DataLoader(train, batch_size=options.batch_size, sampler=sampler)
    if not held_out:
        return training, []
    return training, DataLoader(_Features(features[VALIDATION], held_out), batch_size=options.batch_size)


def _labels(records: Sequence[PairRecord], reference: Reference | None) -> dict[str, int]:
    """The place of each image's class in CLASSES; _NO_CLASS without a reference and for the younger than 50."""
    found = {r.pair_id: class_of(r.bmd_g_cm2, reference, age=r.age) for r in records}
    return {name: _NO_CLASS if kind is None else CLASSES.index(kind) for name, kind in found.items()}


def _readout(net: FoundationNet, pairs: PairData, device: str) -> Readout:
    """The value as it is, with the conformal interval of the validation patients."""
    records = pairs.real(VALIDATION)
    if not records:
        return Readout()
    net.to(device).eval()
    with torch.inference_mode():
        read = [net(batch["radiograph"].to(device))[1].cpu() for batch in pairs.loader_of(records)]
    net.cpu()
    residuals = np.abs(torch.cat(read).double().numpy() - [record.bmd_g_cm2 for record in records])
    half_width, level = conformal_half_width(residuals, [record.subject for record in records])
    return Readout(interval_g_cm2=half_width, interval_level=level)


def _identity(base: Base, pairs: PairData, options: Options) -> dict[str, Any]:
    # Where the base model lies is no part of what the run is.
    config = {name: value for name, value in asdict(options).items() if name not in ("backbone", "revision")}
    return {
        "stage": NAME,
        "config": json.loads(json.dumps(config)),
        "data_sha256": pairs.digest(),
        "start_sha256": [base.config_sha256, base.weights_sha256],
        "versions": {name: metadata.version(name) for name in _VERSIONS_OF},
    }


def _card(
    net: FoundationNet, pairs: PairData, base: Base, options: Options, identity: Mapping[str, Any], readout: Readout
) -> ModelCard:
    here = pairs.dataset.card
    training = pairs.records(TRAIN)
    labels = list(_labels(training, reference_for(options.reference, here.region)).values())
    counts = {kind.value: labels.count(index) for index, kind in enumerate(CLASSES)}
    return ModelCard(
        stage=BASELINE,
        baseline=NAME,
        structures=(),
        network={
            "base": base.identity(),
            "strategy": options.strategy,
            "lora": None if net.lora is None else asdict(net.lora),
            "classes": [kind.value for kind in CLASSES],
        },
        normalisation=pairs.normalisation,
        readout=readout,
        **of_data(here),
        training={
            **pairs.counts(),
            "base_weights": "pretrained" if base.pretrained else RANDOM_NOTE,
            "trainable_parameters": net.trainable_parameters(),
            "train_classes": {**counts, "no class": labels.count(_NO_CLASS)},
            "reference": reference_name(options.reference, here.region),
            "t_scores_are_for": T_SCORE_FOR,
            "bmd_sources": sorted({r.bmd_source for r in training}),
            **{key: identity[key] for key in ("data_sha256", "versions")},
            "seed": options.seed,
        },
    )
