"""Bones of a CT made denser or thinner, cortex and trabeculae apart, along the way that ageing takes.

Cortex is the shell of a bone's label, by its distance map, and what is dense near it, by its HU. A CT does not resolve
a cortex of 1 mm, so a thinner cortex shows as a lower HU; the loss is larger at its inner side, where cortex becomes
trabecular with age (Zebaze et al., Lancet 2010). Trabecular loss is larger where there is little: Ward's triangle and
the trochanters go before the principal compressive group (Singh et al., J Bone Joint Surg Am 1970). Outside the label a
rim of one to two voxels holds the cortex' partial volume and changes with it: no halo is left. The curves below are a
model with that order, not a fit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from hierbmd.anatomy.metal import metal_near
from hierbmd.anatomy.shape import box_of, inscribed_radius_mm, subgrid
from hierbmd.data.volume import LabelMap, Volume
from hierbmd.simulation.basis import METAL_HU, nodes

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]

BONE_NAMES = (
    *("femur_", "hip_", "sacrum", "vertebrae_", "rib_", "sternum", "humerus_", "scapula_", "clavicula_", "skull"),
)
"""What names of bones in a label map begin with."""

_SHELL_MM = (1.5, 3.0)
_DENSE_HU = (450.0, 750.0)
_DENSE_DEPTH_MM = (6.0, 9.0)
_ENDOSTEAL_MM = 4.0
_LEVEL_MM = 5.0
_RIM_SHARES = (1.0, 0.5)
_MOST_HU = METAL_HU - 1.0


@dataclass(frozen=True)
class DensityChange:
    """Logarithms of density factors: of trabeculae, of cortex, and of both on each side; `texture` (ni, nj, nk) adds to
    both."""

    trabecular: float = 0.0
    cortical: float = 0.0
    left: float = 0.0
    right: float = 0.0
    texture: Floats | None = None

    def side(self, name: str) -> float:
        """What is added for a bone of this name; nothing in the middle."""
        return self.left if "_left" in name else self.right if "_right" in name else 0.0


def bones_in(labels: LabelMap) -> list[str]:
    """The names of the bones that are in a label map."""
    return [name for name in labels.names_present if name.startswith(BONE_NAMES)]


def with_changed_density(volume: Volume, labels: LabelMap, change: DensityChange) -> Volume:
    """The CT in HU with its labelled bones changed; metal, what touches it and bones without a label keep their values.

    In the shell and the rim what lies above soft tissue is scaled, inside the bone what lies above 0 HU, where a
    nominal density is 0: there the density is scaled by its factor.
    """
    names = bones_in(labels)
    bone = np.isin(labels.ids, [labels.id_of(name) for name in names])
    kept = metal_near(volume.values, bone, METAL_HU)
    hu = volume.values.copy()
    rim_ids, rim_share = _rim(labels, names)
    for name in names:
        mask = labels.mask(name)
        box = box_of(mask, margin=3)
        texture = np.zeros(mask[box].shape, np.float32) if change.texture is None else change.texture[box]
        side = texture + np.float32(change.side(name))
        inside = _inside_log_factors(Volume(hu[box], subgrid(volume.grid, box)), mask[box])
        values = hu[box]
        new = _scaled(values, inside, change, side)
        rim = rim_ids[box] == labels.id_of(name)
        edge = np.exp(0.6 * change.cortical + side) - 1.0
        new = np.where(rim, values + edge * rim_share[box] * np.maximum(values - nodes()[1], 0.0), new)
        hu[box] = np.where((mask[box] | rim) & ~kept[box], np.minimum(new, np.maximum(_MOST_HU, values)), values)
    return Volume(hu, volume.grid, volume.unit)


@dataclass(frozen=True)
class _Weights:
    """In a bone's box: the share of cortex, and how much of the whole change cortex and trabeculae take there."""

    cortex: Floats
    cortical_pace: Floats
    trabecular_pace: Floats
    shell: Floats


def _inside_log_factors(volume: Volume, mask: Mask) -> _Weights:
    depth_mm = inscribed_radius_mm(mask, volume.grid) - 0.5 * float(volume.grid.spacing_mm.min())
    shell = 1.0 - _step(depth_mm, *_SHELL_MM)
    dense = _step(volume.values, *_DENSE_HU) * (1.0 - _step(depth_mm, *_DENSE_DEPTH_MM))
    cortex = np.maximum(shell, dense)
    inner = mask & (cortex < 0.5)
    # The mean HU of the trabecular bone around: what is already sparse changes faster, what is dense slower.
    sigma = _LEVEL_MM / volume.grid.spacing_mm
    weight = ndimage.gaussian_filter(inner.astype(np.float32), sigma)
    level = ndimage.gaussian_filter(np.where(inner, np.maximum(volume.values, 0.0), 0.0), sigma)
    level /= np.maximum(weight, 1e-3)
    usual = float(np.median(level[inner])) if inner.any() else 1.0
    pace = np.clip(2.0 - level / max(usual, 1.0), 0.5, 1.5)
    cortical_pace = 0.6 + 0.8 * _step(depth_mm, 0.0, _ENDOSTEAL_MM)
    return _Weights(*(np.asarray(a, dtype=np.float32) for a in (cortex, cortical_pace, pace, shell)))


def _scaled(hu: Floats, at: _Weights, change: DensityChange, side: Floats) -> Floats:
    cortical = np.exp(change.cortical * at.cortical_pace + side) - 1.0
    trabecular = np.exp(change.trabecular * at.trabecular_pace + side) - 1.0
    # Partial volume with soft tissue is in the shell only: deeper, all that is there is bone and its marrow.
    base = nodes()[1] * at.shell
    above = np.maximum(hu - base, 0.0)
    return np.asarray(hu + above * (at.cortex * cortical + (1.0 - at.cortex) * trabecular), dtype=np.float32)


def _rim(labels: LabelMap, names: list[str]) -> tuple[NDArray[np.integer], Floats]:
    """Around the bones, where no structure is: which bone's id the voxel's partial volume belongs to, and its share.

    The second voxel out counts along axes of fine voxels only: partial volume reaches about a millimetre.
    """
    ids = np.where(np.isin(labels.ids, [labels.id_of(n) for n in names]), labels.ids, 0)
    found, share = ids.copy(), np.zeros(ids.shape, dtype=np.float32)
    free = labels.ids == 0
    cross = ndimage.generate_binary_structure(3, 1)
    fine = np.zeros_like(cross)
    fine[1, 1, 1] = True
    for axis, spacing in enumerate(labels.grid.spacing_mm):
        if spacing < 1.6:
            fine[tuple(slice(None) if a == axis else 1 for a in range(3))] = True
    for footprint, weight in zip((cross, fine), _RIM_SHARES, strict=True):
        grown = ndimage.maximum_filter(found, footprint=footprint)
        new = free & (found == 0) & (grown > 0)
        found = np.where(new, grown, found)
        share[new] = weight
    return np.where(free, found, 0), share


def _step(x: NDArray[np.floating], low: float, high: float) -> NDArray[np.floating]:
    """0 below `low`, 1 above `high`, smooth between."""
    t = np.clip((x - low) / (high - low), 0.0, 1.0)
    return np.asarray(t * t * (3.0 - 2.0 * t))
