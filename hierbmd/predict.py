"""From one radiograph to a BMD value and a density image: the protocol that every model keeps, and the trained models.

Torch is imported when a model is loaded, so that the types here are light.
"""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hierbmd.data.card import BASELINE, ModelCard, require_matching
from hierbmd.data.clinical import Clinical
from hierbmd.data.density import Bmd, DensityMap
from hierbmd.data.halves import Half, half_radiograph
from hierbmd.data.radiograph import Radiograph
from hierbmd.geometry import Side
from hierbmd.io.weights import read_card, read_weights

if TYPE_CHECKING:
    from torch import Tensor

    from hierbmd.models.density import DensityNet
    from hierbmd.models.novelty import FeatureDistance
    from hierbmd.models.regressor import BmdNet

MEMBER = "member"
"""What the tensors of an ensemble's members begin with, before their number."""

_BASELINES = "hierbmd.baselines.registry"
"""Named and not imported: the baselines are built on what is here."""
_DISTANCE_TOLERANCE = 0.05
_COARSE = 1.5
_LEAST_COVER = 0.9


@dataclass(frozen=True)
class Spread:
    """How far the members of an ensemble lie apart: the standard deviation of the BMD and of the density image."""

    bmd_g_cm2: float
    density: DensityMap | None


@dataclass(frozen=True)
class Prediction:
    """What a model says of one side: the density image (H, W) in g/cm2, the BMD, and where it saw the region.

    `density` and `region_mask` (H, W) bool, on the density image's lattice, are None from a model that gives a value
    alone (direct regression). `flags` are sentences on how the radiograph is unlike those that the model learned from.
    `spread` is that of an ensemble's members. `novelty` is the image's distance from the training images over the
    limit: above 1 it is unlike them, and flagged. `findings` is what a model says beside the BMD, as plain data.
    """

    density: DensityMap | None
    bmd: Bmd
    region_mask: NDArray[np.bool_] | None
    flags: tuple[str, ...] = field(default=())
    spread: Spread | None = None
    novelty: float | None = None
    findings: Mapping[str, Any] = field(default_factory=dict)


class Predictor(Protocol):
    """A model that reads one side of a hip radiograph, or a lumbar one; networks and baselines alike."""

    @property
    def card(self) -> ModelCard:
        """What the model is."""

    def predict_half(self, half: Half) -> Prediction:
        """Read a half image on the card's frame; the images of the prediction are in its canonical look."""


@dataclass(frozen=True)
class NetworkPredictor:
    """A trained network with its card, and the distance that tells images unlike the training images."""

    card: ModelCard
    network: DensityNet | BmdNet
    distance: FeatureDistance | None = None

    def predict_half(self, half: Half) -> Prediction:
        """Read a half image, (H, W) on the card's frame; images come back in the same canonical look."""
        return self.read_half(half)[0]

    def read_half(self, half: Half, *, readings: int | None = None) -> tuple[Prediction, list[Tensor]]:
        """What `predict_half` says, and the encoder's features of the image, finest first, (1, C_i, h_i, w_i).

        `readings` stands in for the card's: who does not ask for the BMD needs no moved copies.
        """
        import torch

        from hierbmd.models.moved import moved_copies
        from hierbmd.models.novelty import feature_means
        from hierbmd.models.regressor import BmdNet

        assert self.card.readout is not None
        novelty = None
        pixels = torch.from_numpy(self.card.normalisation.apply(half.pixels))[None, None]
        with torch.inference_mode():
            if isinstance(self.network, BmdNet):
                features = self.network.density.encode(pixels)
                value, output = self.network.read(features, pixels.shape[-2:])
            else:
                features = self.network.encode(pixels)
                output = self.network.decode(features, pixels.shape[-2:])
                value = output.region_mean
            copies = itertools.islice(moved_copies(pixels, readings or self.card.readout.readings), 1, None)
            raw_g_cm2 = float(torch.stack([value, *map(self._bmd_of, copies)]).mean())
            if self.distance is not None and self.card.novelty is not None:
                novelty = float(self.distance(feature_means(features))[0]) / self.card.novelty.limit
        bmd_g_cm2 = max(self.card.readout.slope * raw_g_cm2 + self.card.readout.intercept, 0.0)
        bmd = Bmd(
            bmd_g_cm2,
            self.card.region,
            half.side,
            self.card.material,
            self.card.readout.interval(bmd_g_cm2),
        )
        flags = (*acquisition_flags(half, self.card), *_novelty_flags(novelty))
        if output is None:
            return Prediction(None, bmd, None, flags, novelty=novelty), features
        assert output.mask_logits is not None
        areal = output.areal[0, 0].clamp_min(0.0).numpy()
        density = DensityMap(areal, half.geometry.camera.pixel_mm, self.card.region, self.card.material)
        return Prediction(density, bmd, output.mask_logits[0, 0].numpy() > 0, flags, novelty=novelty), features

    def _bmd_of(self, pixels: Tensor) -> Tensor:
        """The raw BMD alone, (B,) g/cm2, of normalised pixels (B, 1, H, W)."""
        from hierbmd.models.density import DensityOutput

        read = self.network(pixels)
        value: Tensor = read.region_mean if isinstance(read, DensityOutput) else read[0]
        return value


@dataclass(frozen=True)
class EnsemblePredictor:
    """Several trained networks whose readings are averaged, with the card of the whole."""

    card: ModelCard
    members: tuple[NetworkPredictor, ...]

    def predict_half(self, half: Half) -> Prediction:
        """Read a half image with every member: their mean, and how far they lie apart.

        The region is where most members see it; `novelty` is the members' median.
        """
        read = [member.predict_half(half) for member in self.members]
        values = np.array([one.bmd.value_g_cm2 for one in read])
        assert self.card.readout is not None
        mean = float(values.mean())
        bmd = replace(read[0].bmd, value_g_cm2=mean, interval_g_cm2=self.card.readout.interval(mean))
        density, spread_image, region = _averaged(read)
        known = [one.novelty for one in read if one.novelty is not None]
        novelty = float(np.median(known)) if known else None
        flags = (*acquisition_flags(half, self.card), *_novelty_flags(novelty))
        spread = Spread(float(values.std(ddof=1)), spread_image)
        return Prediction(density, bmd, region, flags, spread, novelty)


def _averaged(
    read: Sequence[Prediction],
) -> tuple[DensityMap | None, DensityMap | None, NDArray[np.bool_] | None]:
    """The members' mean density image, its standard deviation over them, and the region that most of them see."""
    densities = [one.density for one in read if one.density is not None]
    regions = [one.region_mask for one in read if one.region_mask is not None]
    if len(densities) < len(read) or len(regions) < len(read):
        return None, None, None
    images = np.stack([one.areal_g_cm2 for one in densities])
    mean, sd = images.mean(axis=0), images.std(axis=0, ddof=1)
    first = densities[0]
    return replace(first, areal_g_cm2=mean), replace(first, areal_g_cm2=sd), np.mean(regions, axis=0) > 0.5


def load_predictor(folder: str | Path) -> Predictor:
    """The model in a run folder, a trained stage, an ensemble or a baseline, on the CPU.

    UntrustedWeights: not safetensors with a matching card. WrongWeights: a stage that gives no BMD (decompose), another
    version, or tensors that do not fit.
    """
    if read_card(folder).stage == BASELINE:
        loaded: Predictor = importlib.import_module(_BASELINES).load(folder)
        return loaded
    return load_network_predictor(folder)


def load_network_predictor(folder: str | Path) -> NetworkPredictor | EnsemblePredictor:
    """The trained stage or the ensemble in a folder; errors as `load_predictor`, WrongWeights for a baseline too."""
    tensors, card = read_weights(folder)
    require_matching(card, where=folder, stage=("synthesize", "regress"))
    if not card.members:
        return network_predictor(card, tensors)
    return EnsemblePredictor(card, member_predictors(card, tensors, where=folder))


def member_predictors(
    card: ModelCard, tensors: Mapping[str, Tensor], *, where: object = ""
) -> tuple[NetworkPredictor, ...]:
    """The networks that a model holds as members, from its card and tensors."""
    members = []
    for number, stored in enumerate(card.members):
        prefix = f"{MEMBER}{number}."
        own = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
        members.append(network_predictor(ModelCard.from_json(stored, where=where), own))
    return tuple(members)


def network_predictor(card: ModelCard, tensors: Mapping[str, Tensor]) -> NetworkPredictor:
    """The network that a card describes, filled with its tensors; WrongWeights when they do not fit."""
    from hierbmd.models.novelty import FeatureDistance
    from hierbmd.models.registry import build_network, load_network

    network = build_network(card)
    load_network(network, tensors)
    return NetworkPredictor(card, network.eval(), FeatureDistance.of(tensors))


def predict_radiograph(
    radiograph: Radiograph,
    predictor: Predictor,
    side: Side,
    *,
    clinical: Clinical = Clinical(),  # noqa: B008 (frozen)
) -> tuple[Prediction, Half]:
    """Read one side of a patient's radiograph; the images are turned back to the radiograph's own look.

    Also returns the half image that was read. Errors: SideConflict, ViewConflict, GeometryMissing as `half_camera`.
    """
    half = replace(half_radiograph(radiograph, side, predictor.card.frame), clinical=clinical)
    prediction = predictor.predict_half(half)
    upright = half.geometry.upright
    turned = replace(prediction, flags=(*prediction.flags, *_pixel_flags(radiograph, half)))
    if prediction.density is not None and prediction.region_mask is not None:
        density = replace(prediction.density, areal_g_cm2=upright(prediction.density.areal_g_cm2))
        turned = replace(turned, density=density, region_mask=upright(prediction.region_mask))
    if prediction.spread is not None and prediction.spread.density is not None:
        sd = prediction.spread.density
        sd = replace(sd, areal_g_cm2=upright(sd.areal_g_cm2))
        turned = replace(turned, spread=replace(prediction.spread, density=sd))
    return turned, half


def acquisition_flags(half: Half, card: ModelCard) -> tuple[str, ...]:
    """Sentences on how a half image was taken unlike those that the card's model learned from."""
    found = []
    distances = (
        ("source-detector", half.geometry.camera.sdd_mm, card.sdd_mm),
        ("source-patient", half.source_isocentre_mm, card.source_isocentre_mm),
    )
    for name, here, learned in distances:
        if here is not None and learned is not None and abs(here / learned - 1.0) > _DISTANCE_TOLERANCE:
            found.append(f"{name} distance {here:g} mm; the model learned at {learned:g} mm")
    if card.view is not None and half.geometry.view != card.view:
        found.append(f"view {half.geometry.view}; the model learned on {card.view}")
    covered = float(half.covered.mean())
    if covered < _LEAST_COVER:
        found.append(f"only {covered:.0%} of the model's frame lies on the radiograph")
    return tuple(found)


def _novelty_flags(novelty: float | None) -> tuple[str, ...]:
    if novelty is None or novelty <= 1.0:
        return ()
    return (f"unlike the training images: {novelty:.1f} times the distance that these keep to",)


def _pixel_flags(radiograph: Radiograph, half: Half) -> tuple[str, ...]:
    here, learned = max(radiograph.camera.pixel_mm), min(half.geometry.camera.pixel_mm)
    if here > _COARSE * learned:
        return (f"pixels of {here:g} mm; the model reads {learned:g} mm",)
    return ()
