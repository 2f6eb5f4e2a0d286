"""From one radiograph to a BMD value and a density image: the protocol that every model keeps, and the trained models.

Torch is imported when a model is loaded, so that the types here are light.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from hierbmd.data.card import ModelCard, require_matching
from hierbmd.data.density import Bmd, DensityMap
from hierbmd.data.halves import Half, half_radiograph
from hierbmd.data.radiograph import Radiograph
from hierbmd.geometry import Side
from hierbmd.io.weights import read_weights

if TYPE_CHECKING:
    from hierbmd.models.density import DensityNet
    from hierbmd.models.regressor import BmdNet

_DISTANCE_TOLERANCE = 0.05
_COARSE = 1.5
_LEAST_COVER = 0.9


@dataclass(frozen=True)
class Prediction:
    """What a model says of one side: the density image (H, W) in g/cm2, the BMD, and where it saw the region.

    `density` and `region_mask` (H, W) bool, on the density image's lattice, are None from a model that gives a value
    alone (direct regression). `flags` are sentences on how the radiograph is unlike
    those that the model learned from.
    """

    density: DensityMap | None
    bmd: Bmd
    region_mask: NDArray[np.bool_] | None
    flags: tuple[str, ...] = field(default=())


class Predictor(Protocol):
    """A model that reads one side of a hip radiograph; networks and baselines alike."""

    @property
    def card(self) -> ModelCard:
        """What the model is."""

    def predict_half(self, half: Half) -> Prediction:
        """Read a half image on the card's frame; the images of the prediction are in its canonical look."""


@dataclass(frozen=True)
class NetworkPredictor:
    """A trained network with its card."""

    card: ModelCard
    network: DensityNet | BmdNet

    def predict_half(self, half: Half) -> Prediction:
        """Read a half image, (H, W) on the card's frame; images come back in the same canonical look."""
        import torch

        pixels = torch.from_numpy(self.card.normalisation.apply(half.pixels))[None, None]
        with torch.inference_mode():
            read = self.network(pixels)
            value, output = read if self.card.stage == "regress" else (read.region_mean, read)
        assert self.card.readout is not None
        bmd_g_cm2 = max(self.card.readout.slope * float(value[0]) + self.card.readout.intercept, 0.0)
        bmd = Bmd(
            bmd_g_cm2,
            self.card.region,
            half.side,
            self.card.material,
            self.card.readout.interval(bmd_g_cm2),
        )
        if output is None:
            return Prediction(None, bmd, None, _flags(half, self.card))
        areal = output.areal[0, 0].clamp_min(0.0).numpy()
        density = DensityMap(areal, half.geometry.camera.pixel_mm, self.card.region, self.card.material)
        return Prediction(density, bmd, output.mask_logits[0, 0].numpy() > 0, _flags(half, self.card))


def load_predictor(folder: str | Path) -> NetworkPredictor:
    """The model in a run folder, on the CPU.

    UntrustedWeights: not safetensors with a matching card. WrongWeights: a stage that gives no BMD (decompose), another
    version, or tensors that do not fit.
    """
    from hierbmd.models.registry import build_network, load_network

    tensors, card = read_weights(folder)
    require_matching(card, where=folder, stage=("synthesize", "regress"))
    network = build_network(card)
    load_network(network, tensors)
    return NetworkPredictor(card, network.eval())


def predict_radiograph(radiograph: Radiograph, predictor: Predictor, side: Side) -> tuple[Prediction, Half]:
    """Read one side of a radiograph; the images are turned back to the radiograph's own look.

    Also returns the half image that was read. Errors: SideConflict, ViewConflict, GeometryMissing as `half_camera`.
    """
    half = half_radiograph(radiograph, side, predictor.card.frame)
    prediction = predictor.predict_half(half)
    upright = half.geometry.upright
    turned = replace(prediction, flags=(*prediction.flags, *_pixel_flags(radiograph, half)))
    if prediction.density is not None and prediction.region_mask is not None:
        density = replace(prediction.density, areal_g_cm2=upright(prediction.density.areal_g_cm2))
        turned = replace(turned, density=density, region_mask=upright(prediction.region_mask))
    return turned, half


def _flags(half: Half, card: ModelCard) -> tuple[str, ...]:
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


def _pixel_flags(radiograph: Radiograph, half: Half) -> tuple[str, ...]:
    here, learned = max(radiograph.camera.pixel_mm), min(half.geometry.camera.pixel_mm)
    if here > _COARSE * learned:
        return (f"pixels of {here:g} mm; the model reads {learned:g} mm",)
    return ()
