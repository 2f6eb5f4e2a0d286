"""Training: a network a fold of the patients, what each reads of those it held out, and the model of them all."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hierbmd.baselines.lumbar.figures import FIGURES_FILE, PICTURE_FILE, Held, draw, site_figures, write_rows
from hierbmd.baselines.lumbar.learner import Examples, SiteLearner, batches, fresh_network, read
from hierbmd.baselines.lumbar.options import NAME, SITES, Options
from hierbmd.baselines.lumbar.predictor import tensors_of
from hierbmd.baselines.lumbar.targets import Truth, read_lumbar, references_of, truths
from hierbmd.data.card import BASELINE, ModelCard, Readout, of_data
from hierbmd.data.density import RESEARCH_USE_ONLY, T_SCORE_FOR
from hierbmd.data.pairs import PairRecord
from hierbmd.data.splits import Fold, grouped_folds, quantile_strata
from hierbmd.errors import BadManifest
from hierbmd.evaluation.bootstrap import BootstrapOptions
from hierbmd.evaluation.conformal import conformal_half_width
from hierbmd.io.atomic import write_json
from hierbmd.io.dataset import Dataset
from hierbmd.io.run_folder import RUN_FILE, run_is_finished
from hierbmd.io.weights import read_card, write_weights
from hierbmd.models.multi_output import MultiOutputNet, encoder_card
from hierbmd.training.loop import fit_learner

if TYPE_CHECKING:
    from hierbmd.baselines.registry import Progress

_LEARNT_FROM = ("train", "val")


def fit_folds(data: Path, out: Path, options: Options, progress: Progress) -> ModelCard:
    """Train and cross-validate; see `hierbmd.baselines.lumbar.fit`."""
    dataset = read_lumbar(data)
    known, references = truths(dataset, options), references_of(options)
    identity = _identity(dataset, known, options)
    if run_is_finished(out, identity):
        return read_card(out)
    write_json(out / RUN_FILE, {**identity, "finished": False})
    records = tuple(r for r in dataset.of_split(*_LEARNT_FROM) if not r.synthetic)
    folds = _folds(records, known, options)
    networks, held = [], []
    with progress("folds") as report:
        for fold in folds:
            examples = {
                part: Examples.of(dataset, [r for r in records if r.subject in names], known, references)
                for part, names in (("train", fold.train), ("held", fold.held_out))
            }
            networks.append(_trained(examples["train"], out / "folds" / str(fold.fold), options, fold.fold))
            held += _read_held(networks[-1], examples["held"], fold, records, known)
            report(fold.fold + 1, len(folds))
    return _finish(dataset, out, options, networks, held, known, identity)


def _folds(records: Sequence[PairRecord], known: Mapping[str, Truth], options: Options) -> tuple[Fold, ...]:
    bmd = {r.subject: float(known[r.subject].bmd_g_cm2[0]) for r in records}
    if len(bmd) < 2 * options.folds:
        raise BadManifest(
            f"{len(bmd)} patients to learn from, fewer than two in each of {options.folds} folds",
            mend="more patients, or fewer folds",
        )
    bins = max(1, min(4, len(bmd) // (2 * options.folds)))
    return grouped_folds(bmd, options.folds, seed=options.seed, strata=quantile_strata(bmd, bins=bins))


def _trained(examples: Examples, folder: Path, options: Options, fold: int) -> MultiOutputNet:
    seed = options.seed * 1000 + fold
    network = fresh_network(examples, options, seed=seed)
    learner = SiteLearner(network, options.category_weight)
    loaders = (batches(examples, options, seed=seed), ())
    fit_learner(learner, loaders, folder, dataclasses.replace(options.loop, patience=0), seed=seed)
    return network


def _read_held(
    network: MultiOutputNet,
    examples: Examples,
    fold: Fold,
    records: Sequence[PairRecord],
    known: Mapping[str, Truth],
) -> list[Held]:
    """What the fold's network reads of its held-out patients, images of one averaged, beside the fold's mean."""
    subject_of = {r.pair_id: r.subject for r in records}
    subjects = np.array([subject_of[name] for name, _ in examples.images])
    bmd, shares = read(network, [image for _, image in examples.images])
    mean = network.mean_g_cm2.double().numpy()
    return [
        Held(
            subject=name,
            fold=fold.fold,
            bmd_g_cm2=bmd[subjects == name].mean(axis=0),
            shares=shares[subjects == name].mean(axis=0),
            true_g_cm2=known[name].bmd_g_cm2,
            categories=examples.categories[subjects == name][0],
            mean_g_cm2=mean,
            femur_source=known[name].femur_source,
        )
        for name in fold.held_out
    ]


def _finish(
    dataset: Dataset,
    out: Path,
    options: Options,
    networks: Sequence[MultiOutputNet],
    held: list[Held],
    known: Mapping[str, Truth],
    identity: Mapping[str, Any],
) -> ModelCard:
    held = sorted(held, key=lambda one: one.subject)
    drawn = BootstrapOptions(options.bootstrap_samples, options.seed)
    references = references_of(options)
    figures = {site: site_figures(held, n, references[n], drawn) for n, site in enumerate(SITES)}
    sources = sorted({known[one.subject].femur_source for one in held} - {""})
    write_rows(out, held)
    write_json(
        out / FIGURES_FILE,
        {
            **figures,
            "folds": options.folds,
            "seed": options.seed,
            "n_patients": len(held),
            "femur_sources": sources,
            "t_scores_are_for": T_SCORE_FOR,
            "material": dataset.card.material.value,
            "simulated": dataset.card.simulated,
            "research_use_only": RESEARCH_USE_ONLY,
        },
    )
    draw(out / PICTURE_FILE, held, figures, simulated=dataset.card.simulated)
    card = write_weights(out, tensors_of(networks), _card(dataset, options, networks, held, identity))
    write_json(out / RUN_FILE, {**identity, "finished": True})
    return card


def _card(
    dataset: Dataset,
    options: Options,
    networks: Sequence[MultiOutputNet],
    held: Sequence[Held],
    identity: Mapping[str, Any],
) -> ModelCard:
    here = dataset.card
    names = (options.lumbar_reference, options.femur_reference)
    intervals = [_interval(held, n) for n in range(len(SITES))]
    network = {
        "encoder": encoder_card(networks[0].encoder),
        "head": networks[0].settings,
        "folds": len(networks),
        "sites": [
            {"site": site, "reference": name, "interval_g_cm2": half_width, "interval_level": level}
            for site, name, (half_width, level) in zip(SITES, names, intervals, strict=True)
        ],
    }
    return ModelCard(
        stage=BASELINE,
        baseline=NAME,
        structures=(),
        network=network,
        readout=Readout(1.0, 0.0, *intervals[0]),
        **of_data(here),
        training={
            "train_patients": len(held),
            "bmd_sources": sorted({r.bmd_source for r in dataset.of_split(*_LEARNT_FROM)}),
            "femur_sources": sorted({one.femur_source for one in held} - {""}),
            "data_sha256": identity["data_sha256"],
            "seed": options.seed,
        },
    )


def _interval(held: Sequence[Held], site: int) -> tuple[float, float]:
    """Half-width and level of the interval, conformal on the held-out patients (cross-conformal, as an ensemble's)."""
    known = [one for one in held if np.isfinite(one.true_g_cm2[site])]
    off = np.array([abs(one.bmd_g_cm2[site] - one.true_g_cm2[site]) for one in known])
    return conformal_half_width(off, [one.subject for one in known])


def _identity(dataset: Dataset, known: Mapping[str, Truth], options: Options) -> dict[str, Any]:
    """What makes this run this run; the femur's BMD counts, wherever it comes from."""
    config = json.loads(json.dumps(dataclasses.asdict(options), default=str))
    config.pop("hips")
    femora = {name: [round(float(x), 6) for x in truth.bmd_g_cm2] for name, truth in known.items()}
    return {
        "stage": NAME,
        "config": {**config, "femora": json.loads(json.dumps(femora).replace("NaN", "null"))},
        "data_sha256": dataset.digest(*_LEARNT_FROM),
    }
