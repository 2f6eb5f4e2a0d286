"""A fold ensemble: the runs of several folds as one model, with the interval of what each did not learn from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from hierbmd.data.card import ModelCard, Readout, of_data
from hierbmd.evaluation.conformal import INTERVAL_LEVEL, conformal_half_width
from hierbmd.io.weights import read_weights, write_weights
from hierbmd.models.registry import DISCRIMINATOR
from hierbmd.predict import MEMBER
from hierbmd.training.folds import FoldRun, fold_runs


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
    Barber et al., Ann Stat 2021, prove a coverage of 1 - 2 alpha and observe about 1 - alpha). Errors as `fold_runs`.
    """
    members = fold_runs(runs, data)
    residuals: list[float] = []
    subjects: list[str] = []
    tensors: dict[str, Tensor] = {}
    for number, member in enumerate(members):
        held_out = member.held_out(data)
        reference = [record.bmd_g_cm2 for record in held_out.records]
        residuals += np.abs(np.subtract(held_out.predicted_g_cm2, reference)).tolist()
        subjects += [record.subject for record in held_out.records]
        weights, _ = read_weights(member.folder)
        kept = {name: tensor for name, tensor in weights.items() if not name.startswith(DISCRIMINATOR)}
        tensors |= {f"{MEMBER}{number}.{name}": tensor for name, tensor in kept.items()}
        on_run(number + 1, len(members))
    half_width, level = conformal_half_width(np.array(residuals), subjects, INTERVAL_LEVEL)
    card = _card(members, Readout(1.0, 0.0, half_width, level), held_out=len(set(subjects)))
    return write_weights(out, tensors, card)


def _card(members: Sequence[FoldRun], readout: Readout, *, held_out: int) -> ModelCard:
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
