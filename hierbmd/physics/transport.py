"""Photons through water and an antiscatter grid, one by one: the slow reference of `scatter.py`.

Analogue Monte Carlo in a slab as wide as need be: photoelectric absorption, coherent scatter with the form factor of
free atoms, incoherent scatter as Klein and Nishina have it (free electrons, no binding). By reciprocity the scatter of
one pencil over the whole detector is that of a wide field at its middle. Cross-sections and form factor are tables
that `recipe_scatter.py` writes from xraydb.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray

from hierbmd.physics.attenuation import LEAD_G_CM3, mass_attenuation_cm2_g
from hierbmd.physics.spectrum import CESIUM_IODIDE_G_CM2, Spectrum

Floats = NDArray[np.float64]

_ELECTRON_KEV, _KEV_ANGSTROM, _LEAST_KEV = 510.999, 12.39842, 10.0
_ALUMINIUM_G_CM3 = 2.699


@dataclass(frozen=True)
class Exits:
    """Photons that left the slab towards the detector: (n,) energies, (n, 3) unit directions with z onwards,

    (n,) distances from the pencil's axis on the detector in mm, and (n,) how often each was scattered (0: primary).
    """

    energy_kev: Floats
    direction: Floats
    radius_mm: Floats
    scatters: NDArray[np.int64]

    @property
    def signal(self) -> Floats:
        """What each leaves in an energy-integrating CsI screen that it meets aslant, keV."""
        mass = mass_attenuation_cm2_g("cesium_iodide", self.energy_kev) * CESIUM_IODIDE_G_CM2
        return np.asarray(self.energy_kev * (1.0 - np.exp(-mass / self.direction[:, 2])))


@dataclass(frozen=True)
class StripGrid:
    """A focused linear grid: strips of lead `strip_mm` thick, `lines_cm` to the centimetre, `ratio` times as high as
    the gap between them, which holds aluminium or, with `fibre`, next to nothing."""

    ratio: float
    lines_cm: float = 40.0
    strip_mm: float = 0.05
    fibre: bool = False


def pencil_through_water(
    spectrum: Spectrum, thickness_cm: float, photons: int, *, seed: int = 0, gap_mm: float = 50.0
) -> Exits:
    """A pencil beam's photons that reach a detector `gap_mm` behind a slab of water."""
    rng = np.random.default_rng(seed)
    energy = rng.choice(spectrum.energy_kev, photons, p=spectrum.fluence / spectrum.fluence.sum())
    point, direction = np.zeros((photons, 3)), np.tile([0.0, 0.0, 1.0], (photons, 1))
    scatters, left = np.zeros(photons, dtype=np.int64), []
    while len(energy):
        photoelectric, coherent, total = _water_per_mm(energy)
        further = point + direction * (rng.exponential(size=len(energy)) / total)[:, None]
        out = further[:, 2] > 10.0 * thickness_cm
        onto = (10.0 * thickness_cm + gap_mm - point[out, 2]) / direction[out, 2]
        radius = np.hypot(*(point[out, :2] + direction[out, :2] * onto[:, None]).T)
        left.append((energy[out], direction[out], radius, scatters[out]))
        chance = rng.uniform(size=len(energy)) * total
        alive = ~out & (further[:, 2] > 0.0) & (chance > photoelectric)
        is_coherent = (chance < photoelectric + coherent)[alive]
        energy, direction, point, scatters = energy[alive], direction[alive], further[alive], scatters[alive] + 1
        cosine = np.empty(len(energy))
        cosine[is_coherent] = _coherent_cosines(energy[is_coherent], rng)
        cosine[~is_coherent] = _klein_nishina_cosines(energy[~is_coherent], rng)
        lost = np.where(is_coherent, 0.0, energy / _ELECTRON_KEV * (1.0 - cosine))
        energy, direction = energy / (1.0 + lost), _turned(direction, cosine, rng)
        kept = energy > _LEAST_KEV
        energy, direction, point, scatters = energy[kept], direction[kept], point[kept], scatters[kept]
    return Exits(*(np.concatenate(parts) for parts in zip(*left, strict=True)))


def through_grid(exits: Exits, grid: StripGrid, *, seed: int = 0, tries: int = 32) -> Floats:
    """The chance that each photon passes a grid, (n,): the mean over places of entry and turns about the beam's axis.

    Lead strips stand along y, seen edge-on by the pencil as a focused grid's are by their focal spot.
    """
    rng = np.random.default_rng(seed)
    pitch = 10.0 / grid.lines_cm
    lead = 0.1 * LEAD_G_CM3 * mass_attenuation_cm2_g("lead", exits.energy_kev)
    filling = 0.1 * _ALUMINIUM_G_CM3 * mass_attenuation_cm2_g("aluminium", exits.energy_kev) * (not grid.fibre)
    height = grid.ratio * (pitch - grid.strip_mm)
    sideways = np.hypot(exits.direction[:, 0], exits.direction[:, 1]) / exits.direction[:, 2]
    passed = np.zeros(len(exits.energy_kev))
    for _ in range(tries):
        start, turn = rng.uniform(0.0, [[pitch], [2.0 * np.pi]], (2, len(passed)))
        share = _lead_share(start, height * sideways * np.cos(turn), pitch, grid.strip_mm)
        passed += np.exp(-(share * lead + (1.0 - share) * filling) * height / exits.direction[:, 2])
    return passed / tries


def _lead_share(start_mm: Floats, across_mm: Floats, pitch_mm: float, strip_mm: float) -> Floats:
    """The share of ways across strips of a period that lies in the strips."""

    def lead_until(x: Floats) -> Floats:
        return np.floor(x / pitch_mm) * strip_mm + np.minimum(np.mod(x, pitch_mm), strip_mm)

    straight = np.abs(across_mm) < 1e-9
    met = (lead_until(start_mm + across_mm) - lead_until(start_mm)) / np.where(straight, 1.0, across_mm)
    return np.where(straight, start_mm < strip_mm, met)


@cache
def _cross_sections() -> Floats:
    """Energy in keV, photoelectric, coherent and incoherent mass attenuation of water in cm2/g, as rows."""
    return _table("water_cross_sections.csv")


@cache
def _form_factor_integral() -> tuple[Floats, Floats]:
    """sin(theta/2)/lambda squared, 1/angstrom2, and the integral of water's squared form factor up to there."""
    squared, height = _table("water_form_factor.csv") ** [[2.0], [1.0]]
    steps = 0.5 * (height[1:] + height[:-1]) * np.diff(squared)
    return squared, np.concatenate([[0.0], np.cumsum(steps)])


def _table(name: str) -> Floats:
    text = files("hierbmd.physics").joinpath(name).read_text(encoding="utf-8")
    return np.array(list(csv.reader(text.splitlines()))[1:], dtype=np.float64).T


def _water_per_mm(energy_kev: Floats) -> tuple[Floats, Floats, Floats]:
    """Photoelectric, coherent and total attenuation of water, 1/mm."""
    at, *kinds = _cross_sections()
    photoelectric, coherent, incoherent = (0.1 * np.interp(energy_kev, at, kind) for kind in kinds)
    return photoelectric, coherent, photoelectric + coherent + incoherent


def _klein_nishina_cosines(energy_kev: Floats, rng: np.random.Generator) -> Floats:
    """Cosines of the angle of incoherent scatter, by rejection."""
    cosine, todo = np.empty(len(energy_kev)), np.arange(len(energy_kev))
    while len(todo):
        tried = rng.uniform(-1.0, 1.0, len(todo))
        share = 1.0 / (1.0 + energy_kev[todo] / _ELECTRON_KEV * (1.0 - tried))
        wanted = 0.5 * share**2 * (share + 1.0 / share - 1.0 + tried**2)
        taken = rng.uniform(size=len(todo)) < wanted
        cosine[todo[taken]], todo = tried[taken], todo[~taken]
    return cosine


def _coherent_cosines(energy_kev: Floats, rng: np.random.Generator) -> Floats:
    """Cosines of the angle of coherent scatter: the form factor by its inverse integral, Thomson's law by rejection."""
    squared, integral = _form_factor_integral()
    cosine, todo = np.empty(len(energy_kev)), np.arange(len(energy_kev))
    while len(todo):
        greatest = (energy_kev[todo] / _KEV_ANGSTROM) ** 2
        up_to = rng.uniform(size=len(todo)) * np.interp(greatest, squared, integral)
        tried = 1.0 - 2.0 * np.interp(up_to, integral, squared) / greatest
        taken = rng.uniform(size=len(todo)) < 0.5 * (1.0 + tried**2)
        cosine[todo[taken]], todo = tried[taken], todo[~taken]
    return cosine


def _turned(direction: Floats, cosine: Floats, rng: np.random.Generator) -> Floats:
    """Unit directions turned by angles of these cosines, at any azimuth."""
    azimuth = rng.uniform(0.0, 2.0 * np.pi, len(cosine))
    aside = np.where(np.abs(direction[:, 2:]) < 0.9, [[0.0, 0.0, 1.0]], [[1.0, 0.0, 0.0]])
    first = np.cross(direction, aside)
    first /= np.linalg.norm(first, axis=1, keepdims=True)
    second = np.cross(direction, first)
    sine = np.sqrt(np.maximum(0.0, 1.0 - cosine**2))
    return np.asarray(
        cosine[:, None] * direction
        + (sine * np.cos(azimuth))[:, None] * first
        + (sine * np.sin(azimuth))[:, None] * second
    )
