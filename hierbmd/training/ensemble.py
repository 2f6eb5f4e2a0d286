"""A fold ensemble: the runs of several folds as one model, with the interval of what each did not learn from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from hierbmd.data.card import ModelCard, Readout, of_data, require_matching
from hierbmd.errors import BadConfig
from hierbmd.evaluation.cases import predicted_cases
from hierbmd.evaluation.conformal import INTERVAL_LEVEL, conformal_half_width
from hierbmd.io.atomic import read_json
from hierbmd.io.run_folder import RUN_FILE
from hierbmd.io.weights import read_weights, write_weights
from hierbmd.models.registry import DISCRIMINATOR
from hierbmd.predict import MEMBER, load_predictor
from hierbmd.training.data import VALIDATION, FoldChoice, PairData


@dataclass(frozen=True)
class _Member:
    folder: Path
    card: ModelCard
    folds: FoldChoice


def make_ensemble(
    runs: Sequence[str | Path],
    data: str | Path,
    out: str | Path,
    *,
    on_run: Callable[[int, int], None] = lambda done, total: None,
) -> ModelCard:
    """Write the model that averages the runs of a patient-grouped k-fold into `out`; returns its card.

    Every run was trained on `data` with `data.folds`, each on another fold. The interval is conformal on what each run
    predicts for the patients that it held out (cross-conformal prediction, Vovk, Ann Math Artif Intell 2015; for CV+
    Barber et al., Ann Stat 2021, prove a coverage of 1 - 2 alpha and observe about 1 - alpha). BadConfig: fewer than
    two runs, another data set, a run without folds, a fold twice. UntrustedWeights, WrongWeights as `read_weights`.
    """
    members = [_member(Path(run)) for run in runs]
    _require_one_kind(members, data)
    residuals: list[float] = []
    subjects: list[str] = []
    tensors: dict[str, Tensor] = {}
    for number, member in enumerate(members):
        held_out = PairData(str(data), folds=member.folds)
        records = held_out.records(VALIDATION)
        cases = predicted_cases(load_predictor(member.folder), held_out.dataset, records)
        residuals += [abs(case.bmd.value_g_cm2 - case.record.bmd_g_cm2) for case in cases]
        subjects += [record.subject for record in records]
        weights, _ = read_weights(member.folder)
        kept = {name: tensor for name, tensor in weights.items() if not name.startswith(DISCRIMINATOR)}
        tensors |= {f"{MEMBER}{number}.{name}": tensor for name, tensor in kept.items()}
        on_run(number + 1, len(members))
    half_width, level = conformal_half_width(np.array(residuals), subjects, INTERVAL_LEVEL)
    card = _card(members, Readout(1.0, 0.0, half_width, level), held_out=len(set(subjects)))
    return write_weights(out, tensors, card)


def _member(folder: Path) -> _Member:
    _, card = read_weights(folder)
    require_matching(card, where=folder, stage=("synthesize", "regress"))
    config = read_json(folder / RUN_FILE)["config"]
    folds = FoldChoice(**config["data"].get("folds", {}))
    if not folds.folds:
        raise BadConfig("the run holds out no fold", where=folder, mend="train it with --data.folds.folds and .fold")
    return _Member(folder, card, folds)


def _require_one_kind(members: Sequence[_Member], data: str | Path) -> None:
    if len(members) < 2:
        raise BadConfig("an ensemble of fewer than two runs", mend="give the runs of several folds")
    first, digest = members[0], PairData(str(data)).digest()
    seen: dict[tuple[int, int], Path] = {}
    for member in members:
        wanted = {name: getattr(first.card, name) for name in ("stage", "frame", "region", "material", "structures")}
        require_matching(member.card, where=member.folder, **wanted)
        if member.card.training.get("data_sha256") != digest:
            raise BadConfig("the run was trained on another data set", where=member.folder, mend="give its --data")
        if (member.folds.folds, member.folds.seed) != (first.folds.folds, first.folds.seed):
            raise BadConfig(
                "the runs are of different folds", where=member.folder, mend="one number of folds, one seed"
            )
        place = (member.folds.repeat, member.folds.fold)
        if place in seen:
            raise BadConfig("a fold twice", where=f"{seen[place]} and {member.folder}", mend="give each fold once")
        seen[place] = member.folder


def _card(members: Sequence[_Member], readout: Readout, *, held_out: int) -> ModelCard:
    first = members[0].card
    training: Mapping[str, Any] = {
        "members": [member.card.sha256 for member in members],
        "folds": members[0].folds.folds,
        "held_out_patients": held_out,
        **{key: first.training[key] for key in ("data_sha256", "versions", "bmd_sources") if key in first.training},
    }
    return ModelCard(
        stage=first.stage,
        structures=first.structures,
        network={},
        readout=readout,
        **of_data(first),
        training=training,
        members=tuple(member.card.to_json() for member in members),
    )
