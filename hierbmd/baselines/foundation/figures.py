"""One trained foundation model on patients never seen: accuracy, and whether it looks at bone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hierbmd.baselines.foundation.explain import STEPS, attention_rollout, integrated_gradients, osteoporosis_score
from hierbmd.baselines.foundation.network import CLASSES
from hierbmd.baselines.foundation.predictor import FoundationPredictor
from hierbmd.baselines.registry import Progress
from hierbmd.data.card import require_matching
from hierbmd.data.density import (
    RESEARCH_USE_ONLY,
    T_SCORE_FOR,
    DensityClass,
    Reference,
    class_of,
    reference_for,
    reference_name,
)
from hierbmd.data.pairs import PairRecord
from hierbmd.data.splits import SplitMember, check_leaks
from hierbmd.errors import BadConfig, BadManifest
from hierbmd.evaluation.agreement import pearson_r, rmse
from hierbmd.evaluation.bootstrap import BootstrapOptions, bootstrapped
from hierbmd.evaluation.cases import Readings, shown_pair_ids
from hierbmd.evaluation.estimate import Estimate
from hierbmd.evaluation.explanation import Change, Image, Mask, bone_perturbation, chance_iou, saliency_iou
from hierbmd.evaluation.options import EvaluationOptions
from hierbmd.evaluation.screening import auc_delong
from hierbmd.evaluation.summary import has_condition
from hierbmd.io.dataset import Dataset
from hierbmd.training.data import is_registered

CONDITION = "osteoporosis"
MAPS = ("rollout", "integrated_gradients")

_BATCH = 32


@dataclass(frozen=True)
class ExplainOptions:
    """How far it is looked into where a model looks: what perturbs bone, maps of how many patients, their steps."""

    change: Change = "replace"
    maps: int = 24
    steps: int = STEPS


@dataclass(frozen=True)
class Explained:
    """One image (H, W) with its bone, and by name the maps over it; one that the backbone cannot give is missing."""

    record: PairRecord
    image: Image
    bone: Mask
    maps: dict[str, NDArray[np.float32]]


def figures(
    predictor: FoundationPredictor,
    dataset: Dataset,
    options: EvaluationOptions,
    explain: ExplainOptions,
    *,
    progress: Progress,
) -> tuple[dict[str, Any], list[Explained]]:
    """Every figure of a foundation model on one split, and the images whose maps were made.

    AUC is that of osteoporosis against the other classes by the class probability, over patients; patients known to be
    younger than 50 have no class and count for the BMD alone. Bone is where the hip and femur of the registered CT are
    projected. Errors: WrongWeights (another frame, region or material), SplitLeak, BadManifest (an empty split).
    """
    card = dataset.card
    require_matching(predictor.card, where=dataset.folder, region=card.region, material=card.material, frame=card.frame)
    reference = reference_for(options.reference, card.region)
    check_leaks([SplitMember(r.pair_id, r.subject, r.split, r.radiograph_sha256) for r in dataset.records])
    records = [record for record in dataset.of_split(options.split) if not record.synthetic]
    if not records:
        raise BadManifest(f"no {options.split} patients in the data set", where=dataset.folder, mend="another split")
    with progress("reading radiographs") as report:
        risk, bmd = read_images(predictor, [dataset.load(record).radiograph for record in records], report=report)
    shown = _with_bone(dataset, records)
    explained = _explained(predictor, shown, explain, progress)
    drawn = BootstrapOptions(options.bootstrap_samples, options.seed)
    return {
        **_accuracy(records, risk, bmd, reference, drawn),
        **_perturbed(predictor, shown, reference, explain, options.seed),
        **{f"iou_{name}": figure.as_json() for name, figure in _ious(explained, drawn).items()},
        "n_patients": len({record.subject for record in records}),
        "n_images": len(records),
        "n_images_with_bone": len(shown),
        "n_maps": len(explained),
        "change": explain.change,
        "reference": reference_name(options.reference, card.region),
        "reference_population": None if reference is None else reference.name,
        "t_scores_are_for": T_SCORE_FOR,
        "simulated": card.simulated,
        "research_use_only": RESEARCH_USE_ONLY,
    }, explained


def read_images(
    predictor: FoundationPredictor,
    images: Sequence[Image],
    *,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The probability of osteoporosis and the BMD in g/cm2, (n,) each, of half images (H, W)."""
    risk: list[float] = []
    bmd: list[float] = []
    for at in range(0, len(images), _BATCH):
        with torch.inference_mode():
            logits, value = predictor.net(predictor.images(images[at : at + _BATCH]))
        risk += torch.softmax(logits.double(), 1)[:, CLASSES.index(DensityClass.OSTEOPOROSIS)].tolist()
        bmd += value.double().clamp_min(0.0).tolist()
        report(len(risk), len(images))
    return np.array(risk), np.array(bmd)


def _accuracy(
    records: Sequence[PairRecord],
    risk: NDArray[np.float64],
    bmd: NDArray[np.float64],
    reference: Reference | None,
    drawn: BootstrapOptions,
) -> dict[str, Any]:
    true, subjects = np.array([record.bmd_g_cm2 for record in records]), [record.subject for record in records]
    classed = [number for number, record in enumerate(records) if _has_class(record, reference)]
    # Turned over a risk is ordered as a BMD, and the hip at most risk stands for the patient.
    turned, lowest = Readings.of([records[i] for i in classed], list(-risk[classed])).by_patient()
    found = {
        "auc_osteoporosis": auc_delong(-turned, _positive(lowest, reference)),
        "pearson_r": bootstrapped(lambda at: pearson_r(bmd[at], true[at]), subjects, unit="", options=drawn),
        "rmse_g_cm2": bootstrapped(lambda at: rmse(bmd[at], true[at]), subjects, unit="g/cm2", options=drawn),
    }
    return {name: figure.as_json() for name, figure in found.items()}


def _has_class(record: PairRecord, reference: Reference | None) -> bool:
    return class_of(record.bmd_g_cm2, reference, age=record.age) is not None


def _positive(lowest_g_cm2: NDArray[np.float64], reference: Reference | None) -> NDArray[np.bool_]:
    """Who (n,) of the patients that have a class has osteoporosis; nobody has a class without a reference."""
    return np.zeros(0, dtype=bool) if reference is None else has_condition(CONDITION, lowest_g_cm2, reference)


def _with_bone(dataset: Dataset, records: Sequence[PairRecord]) -> list[tuple[PairRecord, Image, Mask]]:
    """The images on which bone is known: registered, and some of it in the frame."""
    found = []
    for record in records:
        if is_registered(record):
            pair = dataset.load(record)
            bone = np.any(pair.bones > 0, axis=0)
            found += [(record, pair.radiograph, bone)] if bone.any() else []
    return found


def _perturbed(
    predictor: FoundationPredictor,
    shown: Sequence[tuple[PairRecord, Image, Mask]],
    reference: Reference | None,
    explain: ExplainOptions,
    seed: int,
) -> dict[str, Any]:
    return bone_perturbation(
        lambda images: read_images(predictor, images)[0],
        [one for one in shown if _has_class(one[0], reference)],
        lambda lowest: _positive(lowest, reference),
        how=explain.change,
        seed=seed,
    ).as_json()


def _explained(
    predictor: FoundationPredictor,
    shown: Sequence[tuple[PairRecord, Image, Mask]],
    explain: ExplainOptions,
    progress: Progress,
) -> list[Explained]:
    """Maps of one image a patient, evenly spread over the reference BMD."""
    chosen = shown_pair_ids([record for record, _, _ in shown], explain.maps)
    found = []
    with progress("explanation maps") as report:
        for record, image, bone in shown:
            if record.pair_id in chosen:
                found.append(Explained(record, image, bone, maps_of(predictor, image, steps=explain.steps)))
                report(len(found), len(chosen))
    return found


def maps_of(predictor: FoundationPredictor, image: Image, *, steps: int = STEPS) -> dict[str, NDArray[np.float32]]:
    """The explanation maps (H, W) of a half image by name, those that the backbone can give."""
    pixels = predictor.images([image])
    score = osteoporosis_score(predictor.net)
    maps = {MAPS[1]: integrated_gradients(score, pixels, steps=steps)[0]}
    try:
        return {MAPS[0]: attention_rollout(predictor.net, pixels)[0], **maps}
    except BadConfig:
        return maps


def _ious(explained: Sequence[Explained], drawn: BootstrapOptions) -> dict[str, Estimate]:
    """The mean IoU of each map with bone over patients, beside that of a map that knows nothing."""
    values = {name: [saliency_iou(one.maps[name], one.bone) for one in explained if name in one.maps] for name in MAPS}
    values["chance"] = [chance_iou(one.bone) for one in explained]
    subjects = [one.record.subject for one in explained]
    found = {}
    for name, numbers in values.items():
        if numbers:
            array = np.array(numbers)
            found[name] = bootstrapped(lambda at, a=array: float(a[at].mean()), subjects, unit="", options=drawn)  # type: ignore[misc]
        else:
            found[name] = Estimate.undefined("this backbone gives no such map, or no image has bone")
    return found
