"""Other models beside the one that is evaluated: read the same images, compared, and put on a learning curve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hierbmd.data.card import require_matching
from hierbmd.data.density import Reference
from hierbmd.errors import BadConfig
from hierbmd.evaluation.cases import Readings, predicted_cases
from hierbmd.evaluation.comparison import MEAN_PREDICTOR, comparison, flat, mean_predictor, system_figures
from hierbmd.evaluation.options import EvaluationOptions
from hierbmd.io.dataset import Dataset

if TYPE_CHECKING:
    from hierbmd.predict import Predictor

PATIENTS = "train_patients"
"""What a card's `training` calls the number of patients that a model learned from."""


@dataclass(frozen=True)
class NamedModel:
    """A model with the name of its system; models of one name are points of one learning curve."""

    name: str
    predictor: Predictor

    @property
    def patients(self) -> int:
        """How many patients it learned from, as its card says; BadConfig where it does not."""
        number = self.predictor.card.training.get(PATIENTS)
        if not isinstance(number, int):
            raise BadConfig("the card does not say how many patients were trained on", where=self.name)
        return number


def read_all(models: Sequence[NamedModel], dataset: Dataset, split: str) -> list[Readings]:
    """What each model reads of a split's images; WrongWeights for a model of another region, material or frame."""
    records, card = dataset.of_split(split), dataset.card
    wanted = {"region": card.region, "material": card.material, "frame": card.frame}
    for one in models:
        require_matching(one.predictor.card, where=one.name, **wanted)
    return [
        Readings.of(records, [case.bmd.value_g_cm2 for case in predicted_cases(one.predictor, dataset, records)])
        for one in models
    ]


def compared(
    models: Sequence[NamedModel],
    readings: Sequence[Readings],
    mean_g_cm2: float,
    options: EvaluationOptions,
    *,
    reference: Reference | None,
) -> dict[str, Any]:
    """`comparison` of the models, the first against the others and the mean predictor.

    Of the models of one name the one that learned from most patients stands for it.
    """
    best: dict[str, tuple[int, Readings]] = {}
    for one, read in zip(models, readings, strict=True):
        number = one.patients if sum(m.name == one.name for m in models) > 1 else 0
        if one.name not in best or number > best[one.name][0]:
            best[one.name] = number, read
    systems: Mapping[str, Readings] = {name: read for name, (_, read) in best.items()}
    with_mean = {**systems, MEAN_PREDICTOR: mean_predictor(readings[0], mean_g_cm2)}
    return comparison(with_mean, options, reference=reference)


def learning_curve(
    models: Sequence[NamedModel],
    readings: Sequence[Readings],
    options: EvaluationOptions,
    *,
    reference: Reference | None,
) -> list[dict[str, Any]]:
    """Each model's figures with its system and the patients it learned from, in the order of both."""
    points = [
        {"system": one.name, "patients": one.patients, **flat(system_figures(read, options, reference=reference))}
        for one, read in zip(models, readings, strict=True)
    ]
    return sorted(points, key=lambda point: (str(point["system"]), int(str(point["patients"]))))
