"""A model on a data set's unseen patients: every figure, beside the mean predictor's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Any

from hierbmd.data.card import require_matching
from hierbmd.data.density import (
    RESEARCH_USE_ONLY,
    T_SCORE_FOR,
    DensityMap,
    Reference,
    TScore,
    reference_for,
    reference_name,
    t_score_of,
)
from hierbmd.data.pairs import PairRecord
from hierbmd.data.splits import SplitMember, check_leaks
from hierbmd.errors import BadManifest
from hierbmd.evaluation.cases import Case, Readings, predicted_cases, shown_pair_ids
from hierbmd.evaluation.density_image import DENSITY_FIGURES, density_image_figures
from hierbmd.evaluation.estimate import CONFIDENCE
from hierbmd.evaluation.options import EvaluationOptions
from hierbmd.evaluation.summary import Row, summary
from hierbmd.io.dataset import Dataset

if TYPE_CHECKING:
    from hierbmd.predict import Predictor


@dataclass(frozen=True)
class Evaluation:
    """What was found: `metrics` for metrics.json, `rows` for predictions.csv, `shown` density images by pair id."""

    metrics: dict[str, Any]
    rows: tuple[Row, ...]
    shown: dict[str, DensityMap] = field(default_factory=dict)


def evaluate(
    predictor: Predictor,
    dataset: Dataset,
    options: EvaluationOptions | None = None,
    *,
    learnt: Dataset | None = None,
    on_image: Callable[[int, int], None] = lambda done, total: None,
) -> Evaluation:
    """Evaluate a model on one split of a data set.

    The mean predictor and the screening thresholds come from the training split alone: that of the data set, or of the
    one that the model `learnt` from where this is another. `on_image` is told how many of how many images are read.
    Errors: SplitLeak, BadManifest (a split is empty), WrongWeights (another region, material or frame), BadConfig (a
    reference of another region).
    """
    options = options or EvaluationOptions()
    card, source = dataset.card, learnt or dataset
    require_matching(predictor.card, where=dataset.folder, region=card.region, material=card.material, frame=card.frame)
    reference = reference_for(options.reference, card.region)
    training, records = _of_split(source, "train"), _of_split(dataset, options.split)
    check_leaks([SplitMember(r.pair_id, r.subject, r.split, r.radiograph_sha256) for r in dataset.records])
    to_show, peak_g_cm2 = shown_pair_ids(records, options.shown), _peak_g_cm2(dataset, records)
    learnt_g_cm2: list[float] = []
    rows: list[Row] = []
    shown: dict[str, DensityMap] = {}
    both = chain(predicted_cases(predictor, source, training), predicted_cases(predictor, dataset, records))
    for done, case in enumerate(both, start=1):
        if done <= len(training):
            learnt_g_cm2.append(case.bmd.value_g_cm2)
        else:
            rows.append(_row(case, reference, peak_g_cm2))
            if case.density is not None and case.record.pair_id in to_show:
                shown[case.record.pair_id] = case.density
        on_image(done, len(training) + len(records))
    test = Readings.of(records, [row["bmd_predicted_g_cm2"] for row in rows])
    figures = summary(test, Readings.of(training, learnt_g_cm2), rows, options, reference=reference)
    metrics = {**figures, **_provenance(dataset, options), "density_peak_g_cm2": peak_g_cm2}
    return Evaluation(metrics, tuple(rows), shown)


def _of_split(dataset: Dataset, split: str) -> tuple[PairRecord, ...]:
    records = tuple(record for record in dataset.of_split(split) if not record.synthetic)
    if not records:
        there = ", ".join(sorted({r.split or "none" for r in dataset.records})) or "no pairs"
        raise BadManifest(f"no {split} patients in the data set", where=dataset.folder, mend=f"its splits: {there}")
    return records


def _peak_g_cm2(dataset: Dataset, records: Sequence[PairRecord]) -> float:
    """The highest true areal density of all images: the range that PSNR and SSIM refer to."""
    return max(float(dataset.load(record).region.max()) for record in records)


def _row(case: Case, reference: Reference | None, peak_g_cm2: float) -> Row:
    record = case.record
    low_g_cm2, high_g_cm2 = case.bmd.interval_g_cm2 or (None, None)
    t_predicted, t_reference = (
        t_score_of(bmd_g_cm2, reference, region=case.bmd.region, age_years=record.age)
        for bmd_g_cm2 in (case.bmd.value_g_cm2, record.bmd_g_cm2)
    )
    return {
        "pair_id": record.pair_id,
        "subject": record.subject,
        "side": record.side.value,
        "bmd_reference_g_cm2": record.bmd_g_cm2,
        "bmd_source": record.bmd_source,
        "bmd_predicted_g_cm2": case.bmd.value_g_cm2,
        "interval_low_g_cm2": low_g_cm2,
        "interval_high_g_cm2": high_g_cm2,
        "t_score_reference": t_reference.value,
        "t_score_predicted": t_predicted.value,
        "class_reference": _class_of(t_reference),
        "class_predicted": _class_of(t_predicted),
        "t_score_reason": t_reference.reason,
        **_image_figures(case, peak_g_cm2),
        "research_use_only": RESEARCH_USE_ONLY,
    }


def _class_of(t_score: TScore) -> str | None:
    return None if t_score.density_class is None else t_score.density_class.value


def _image_figures(case: Case, peak_g_cm2: float) -> dict[str, float | None]:
    """How near the predicted density image is; every figure None for a model that predicts none."""
    if case.density is None:
        return dict.fromkeys(DENSITY_FIGURES)
    return density_image_figures(
        case.density.areal_g_cm2, case.pair.region, region=case.pair.region_mask > 0, peak_g_cm2=peak_g_cm2
    ).as_row()


def _provenance(dataset: Dataset, options: EvaluationOptions) -> dict[str, Any]:
    reference = reference_for(options.reference, dataset.card.region)
    return {
        "split": options.split,
        "seed": options.seed,
        "bootstrap_samples": options.bootstrap_samples,
        "confidence": CONFIDENCE,
        "reference": reference_name(options.reference, dataset.card.region),
        "reference_population": None if reference is None else reference.name,
        "t_scores_are_for": T_SCORE_FOR,
        "bmd_sources": sorted({record.bmd_source for record in dataset.of_split(options.split)}),
        "region": dataset.card.region,
        "material": dataset.card.material.value,
        "simulated": dataset.card.simulated,
        "research_use_only": RESEARCH_USE_ONLY,
    }
