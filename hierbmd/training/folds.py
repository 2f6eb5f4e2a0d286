"""The runs of a patient-grouped k-fold: which they are, and what each reads of the patients that it held out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hierbmd.data.card import ModelCard, require_matching
from hierbmd.errors import BadConfig
from hierbmd.evaluation.cases import predicted_cases
from hierbmd.evaluation.crossval import HeldOut
from hierbmd.io.atomic import read_json
from hierbmd.io.run_folder import RUN_FILE
from hierbmd.io.weights import read_weights
from hierbmd.predict import load_predictor
from hierbmd.training.data import TRAIN, VALIDATION, FoldChoice, PairData


@dataclass(frozen=True)
class FoldRun:
    """A run that held one fold out: its folder, its card, and which fold."""

    folder: Path
    card: ModelCard
    folds: FoldChoice

    def held_out(self, data: str | Path) -> HeldOut:
        """What it reads of its fold's held-out patients."""
        pairs = PairData(str(data), folds=self.folds)
        records, learnt = pairs.records(VALIDATION), pairs.real(TRAIN)
        cases = predicted_cases(load_predictor(self.folder), pairs.dataset, records)
        by_patient: dict[str, list[float]] = {}
        for record in learnt:
            by_patient.setdefault(record.subject, []).append(record.bmd_g_cm2)
        return HeldOut(
            self.folds.repeat,
            self.folds.fold,
            records,
            tuple(case.bmd.value_g_cm2 for case in cases),
            mean_g_cm2=float(np.mean([np.mean(values) for values in by_patient.values()])),
        )


def fold_runs(runs: Sequence[str | Path], data: str | Path) -> list[FoldRun]:
    """The runs of one k-fold on a data set, one or several repeats of it.

    BadConfig: fewer than two runs, another data set, a run without folds, another k-fold, a fold twice. WrongWeights:
    another stage, frame or region. UntrustedWeights as `read_weights`.
    """
    found = [_fold_run(Path(run)) for run in runs]
    if len(found) < 2:
        raise BadConfig("fewer than two runs of a k-fold", mend="give the runs of several folds")
    first, digest = found[0], PairData(str(data)).digest()
    seen: dict[tuple[int, int], Path] = {}
    for run in found:
        wanted = {name: getattr(first.card, name) for name in ("stage", "frame", "region", "material", "structures")}
        require_matching(run.card, where=run.folder, **wanted)
        if run.card.training.get("data_sha256") != digest:
            raise BadConfig("the run was trained on another data set", where=run.folder, mend="give its --data")
        if (run.folds.folds, run.folds.seed) != (first.folds.folds, first.folds.seed):
            raise BadConfig("the runs are of different folds", where=run.folder, mend="one number of folds, one seed")
        place = (run.folds.repeat, run.folds.fold)
        if place in seen:
            raise BadConfig("a fold twice", where=f"{seen[place]} and {run.folder}", mend="give each fold once")
        seen[place] = run.folder
    return found


def _fold_run(folder: Path) -> FoldRun:
    _, card = read_weights(folder)
    require_matching(card, where=folder, stage=("synthesize", "regress"))
    config = read_json(folder / RUN_FILE)["config"]
    folds = FoldChoice(**config["data"].get("folds", {}))
    if not folds.folds:
        raise BadConfig("the run holds out no fold", where=folder, mend="train it with --data.folds.folds and .fold")
    return FoldRun(folder, card, folds)
