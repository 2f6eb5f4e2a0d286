"""A trained deep-radiomics model on a new radiograph."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hierbmd.baselines.radiomics.features import Recipe, clinical_features, image_features, kept_features
from hierbmd.baselines.radiomics.options import NAME
from hierbmd.baselines.radiomics.stored import StoredModel
from hierbmd.data.card import BASELINE, ModelCard, require_matching
from hierbmd.data.density import Bmd
from hierbmd.data.halves import Half
from hierbmd.errors import WrongWeights
from hierbmd.io.weights import read_weights
from hierbmd.predict import NetworkPredictor, Prediction, member_predictors

FEATURES_FOLDER = "features"
"""Of a run: the features of its images, by the hash of what they are made of."""


@dataclass(frozen=True)
class RadiomicsPredictor:
    """One of the seven models, with the encoder that it carries; features that the run kept are taken from there."""

    card: ModelCard
    encoder: NetworkPredictor
    model: StoredModel
    kept: Path

    def predict_half(self, half: Half) -> Prediction:
        """Read a half image on the card's frame: a BMD, and in `findings` whether DXA is recommended.

        Textures are of the region that the encoder sees; a clinical variable that is not known is filled with the
        training patients' median. MissingExtra without mirp where the model has selected textures.
        """
        chosen = self.card.network["models"][self.card.network["model"]]
        features = {**clinical_features(half.clinical), **self._image_features(half)}
        row = np.array([[features.get(name, math.nan) for name in self.model.columns]])
        bmd_g_cm2, risk = (float(x) for x in self.model.read(row)[0])
        interval = None if self.card.readout is None else self.card.readout.interval(bmd_g_cm2)
        seen, _ = self.encoder.read_half(half, readings=1)
        flags = seen.flags
        unknown = [name for name, x in zip(self.model.columns, row[0], strict=True) if math.isnan(x)]
        if unknown:
            flags = (*flags, f"not known, filled with the training median: {', '.join(unknown)}")
        bmd = Bmd(bmd_g_cm2, self.card.region, half.side, self.card.material, interval)
        findings = self._findings(risk, chosen["threshold"])
        return Prediction(None, bmd, None, flags, novelty=seen.novelty, findings=findings)

    def _image_features(self, half: Half) -> dict[str, float]:
        if all(name.startswith("clinical.") for name in self.model.columns):
            return {}
        bins = int(self.card.network["bins"])
        recipe = Recipe(Path(), self.encoder.card.sha256, bins)
        found = kept_features(self.kept, recipe.key(half))
        textures = any(name.startswith("texture.") for name in self.model.columns)
        return found or image_features(half, self.encoder, bins=bins, textures=textures)

    def _findings(self, risk: float, threshold: float | None) -> dict[str, Any]:
        asked = self.card.network
        known = math.isfinite(risk)
        return {
            "model": asked["model"],
            "condition": asked["condition"],
            "probability": risk if known else None,
            "threshold": threshold,
            "sensitivity_asked": asked["sensitivity"],
            "recommend_dxa": None if threshold is None or not known else risk >= threshold,
        }


def load(folder: Path) -> RadiomicsPredictor:
    """The model in a run's folder, on the CPU; UntrustedWeights, WrongWeights."""
    tensors, card = read_weights(folder)
    require_matching(card, where=folder, stage=BASELINE, baseline=NAME)
    try:
        name = card.network["model"]
        columns = card.network["models"][name]["columns"]
    except (KeyError, TypeError) as error:
        raise WrongWeights(f"the card names no model ({error!r})", where=folder, mend="train it again") from None
    members = member_predictors(card, tensors, where=folder)
    if len(members) != 1:
        raise WrongWeights(f"the weights hold {len(members)} encoders, not one", where=folder, mend="train it again")
    model = StoredModel.of_tensors(tensors, f"{name}.", columns, where=folder)
    return RadiomicsPredictor(card, members[0], model, Path(folder) / FEATURES_FOLDER)
