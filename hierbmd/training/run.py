"""One run of one stage: configured, begun or resumed, trained, exported; the folder says what it was."""

from __future__ import annotations

import importlib
import logging
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import metadata, util
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loggers import TensorBoardLogger

from hierbmd.data.card import ModelCard, Stage, of_data, require_matching
from hierbmd.errors import BadConfig
from hierbmd.io.atomic import atomic_path, write_json
from hierbmd.io.run_folder import RUN_FILE, run_is_finished
from hierbmd.io.weights import read_card, read_weights, write_weights
from hierbmd.models.registry import network_card
from hierbmd.training.callbacks import Curves, DivergenceGuard, ProgressBar, StepSeed
from hierbmd.training.checkpoint import (
    AtomicCheckpointIO,
    epoch_end_checkpoint,
    last_checkpoint,
    load_best,
    stop_early,
)
from hierbmd.training.configure import ALLOWED_CODE, StageCLI, config_path, configured, read_yaml
from hierbmd.training.data import TRAIN, VALIDATION, PairData
from hierbmd.training.loop import hush_loggers, quiet
from hierbmd.training.novelty import fit_novelty
from hierbmd.training.readout import fit_readout
from hierbmd.training.samples import Samples
from hierbmd.training.stage import Begin, StageModule, Start

STAGES: tuple[Stage, ...] = get_args(Stage)
CONFIG_FILE = "config.yaml"

_LOG = logging.getLogger(__name__)
_VERSIONS_OF = ("hierbmd", "torch", "lightning", "monai", "numpy")


def train(
    stage: Stage,
    data: str | Path,
    out: str | Path,
    *,
    config: Sequence[str | Path] = (),
    start_from: str | Path | None = None,
    overrides: Mapping[str, Any] | Sequence[str] = (),
    progress: bool = True,
) -> ModelCard:
    """Train one stage on a prepared data set, or go on with the run in `out`; returns the card of its weights.

    `config` are YAML files laid over the stage's own, `overrides` keys like "trainer.max_epochs" with their values, or
    arguments like "--trainer.max_epochs=3". `out` receives weights.safetensors, card.json, config.yaml, run.json,
    curves.csv, samples/ and checkpoints/. A finished run is left as it is.
    Errors: BadConfig (unknown key, code not allowed, another run's folder), BadManifest and SplitLeak (data),
    UntrustedWeights and WrongWeights (`start_from`), TrainingDiverged, OutputUnwritable; KeyboardInterrupt on SIGTERM,
    too, after the step at hand.
    """
    out = Path(out)
    hush_loggers()
    cli = configure(
        stage, [f"--config={config_path(c)}" for c in config] + [f"--data.folder={data}", *_flags(overrides)]
    )
    module, pairs = cli.model, cli.datamodule
    assert isinstance(module, StageModule)
    assert isinstance(pairs, PairData)
    pairs.alone, pairs.radiographs = module.stage == "pretrain", module.radiographs
    start = None if start_from is None else _read_start(module, pairs, Path(start_from))
    if start is not None:
        pairs.normalisation = start.card.normalisation
    identity = _identity(cli, pairs, start)
    if run_is_finished(out, identity):
        _LOG.info("%s is finished already: %s", stage, out)
        return read_card(out)
    mean = float(np.mean([record.bmd_g_cm2 for record in pairs.records(TRAIN)]))
    module.begin(Begin(pairs.dataset.card, mean, start))
    _write_identity(out, cli, identity)
    with quiet():
        trainer = _trainer(cli, out, progress=progress, label=stage)
        trainer.fit(module, datamodule=pairs, ckpt_path=last_checkpoint(out), weights_only=True)
    if trainer.is_global_zero:
        if _patience(cli):
            load_best(out, module)
        novelty = fit_novelty(module, pairs) if module.stage in ("synthesize", "regress") else None
        card = replace(_card(module, pairs, identity), novelty=None if novelty is None else novelty.limit)
        write_weights(out, module.tensors() | ({} if novelty is None else novelty.distance.tensors()), card)
        write_json(out / RUN_FILE, {**identity, "finished": True})
    trainer.strategy.barrier("exported")
    return read_card(out)


def configure(stage: Stage, arguments: Sequence[str]) -> StageCLI:
    """The stage's own configuration with arguments laid over it; BadConfig when they cannot be used."""
    if stage not in STAGES:
        raise BadConfig("no such stage", where=stage, mend=f"one of {', '.join(STAGES)}")
    path = config_path(stage)
    # A stage is named by its configuration alone, so that nothing here imports one.
    module_name, _, class_name = str(read_yaml(path).get("stage_class", "")).rpartition(".")
    if module_name.split(".")[0] not in ALLOWED_CODE:
        raise BadConfig("the stage's class is outside the allow-list", where=path)
    stage_class = getattr(importlib.import_module(module_name), class_name)
    return configured(stage_class, [f"--config={path}", *arguments])


def _flags(overrides: Mapping[str, Any] | Sequence[str]) -> list[str]:
    if isinstance(overrides, Mapping):
        return [f"--{key}={value}" for key, value in overrides.items()]
    return list(overrides)


def _read_start(module: StageModule, data: PairData, folder: Path) -> Start:
    tensors, card = read_weights(folder)
    here = data.dataset.card
    require_matching(card, where=folder, stage=module.starts_from, frame=here.frame, region=here.region)
    require_matching(card, where=folder, material=here.material)
    return Start(tensors, card)


def _identity(cli: StageCLI, data: PairData, start: Start | None) -> dict[str, Any]:
    """What makes this run this run: a resumed one must be the same."""
    return {
        "stage": cli.model.stage,
        "config": cli.settings(),
        "data_sha256": data.digest(),
        "start_sha256": None if start is None else start.card.sha256,
        "versions": {name: metadata.version(name) for name in _VERSIONS_OF} | {"python": platform.python_version()},
    }


def _write_identity(out: Path, cli: StageCLI, identity: Mapping[str, Any]) -> None:
    with atomic_path(out / CONFIG_FILE) as temporary:
        temporary.write_text(cli.dump(), encoding="utf-8")
    write_json(out / RUN_FILE, {**identity, "finished": False})


def _patience(cli: StageCLI) -> int:
    return int(cli.config_init["early_stopping"])


def _logger(out: Path) -> TensorBoardLogger | Literal[False]:
    """TensorBoard's event files where it is installed; the curves are in curves.csv anyway."""
    return TensorBoardLogger(out, name="tensorboard", version="") if util.find_spec("tensorboard") else False


def _trainer(cli: StageCLI, out: Path, *, progress: bool, label: str) -> Trainer:
    settings = dict(cli.config_init["trainer"])
    seed = int(cli.config_init["seed_everything"])
    callbacks: list[Callback] = [StepSeed(seed), DivergenceGuard(out), Curves(out), epoch_end_checkpoint(out)]
    callbacks.append(Samples(out, int(cli.config_init["samples_every"])))
    if _patience(cli):
        if not cli.datamodule.records(VALIDATION):
            raise BadConfig("early stopping without validation patients", mend="data.folds, or a val split")
        callbacks += stop_early(out, cli.model.watched, _patience(cli))
    callbacks += [ProgressBar(label)] if progress and int(os.environ.get("LOCAL_RANK", "0")) == 0 else []
    settings["callbacks"] = [*(settings.get("callbacks") or []), *callbacks]
    settings["plugins"] = [*(settings.get("plugins") or []), AtomicCheckpointIO()]
    # The sampler shares the pairs out itself.
    fixed = {
        "logger": _logger(out),
        "use_distributed_sampler": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "default_root_dir": out,
    }
    return Trainer(**{**settings, **fixed, "deterministic": settings.get("deterministic") is not False})


def _card(module: StageModule, data: PairData, identity: Mapping[str, Any]) -> ModelCard:
    here = data.dataset.card
    network = network_card(module.network)
    training = data.records(TRAIN)
    return ModelCard(
        stage=module.stage,
        structures=module.structures,
        network=network,
        normalisation=data.normalisation,
        readout=fit_readout(module, data, readings=identity["config"]["readings"]),
        **of_data(here),
        training={
            **data.counts(),
            "synthetic_train_pairs": len(training) - len(data.real(TRAIN)),
            "bmd_sources": sorted({r.bmd_source for r in training}),
            **{key: identity[key] for key in ("data_sha256", "start_sha256", "versions")},
            "seed": identity["config"]["seed_everything"],
        },
    )
