"""The features of one image, and the table of many: kept beside the run by image, so that a stopped run goes on."""

from __future__ import annotations

import functools
import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hierbmd.baselines.radiomics.texture import texture_features
from hierbmd.data.card import require_matching
from hierbmd.data.clinical import Clinical
from hierbmd.data.halves import Half
from hierbmd.data.pairs import PairRecord
from hierbmd.data.splits import pixels_sha256
from hierbmd.errors import ProcessDied, WrongWeights
from hierbmd.evaluation.cases import half_of
from hierbmd.io.atomic import read_json, write_json
from hierbmd.io.dataset import Dataset
from hierbmd.parallel import in_processes

if TYPE_CHECKING:
    from hierbmd.predict import NetworkPredictor

KINDS = {"C": "clinical", "T": "texture", "D": "deep"}
"""A model's letter, and what the names of its features begin with: `clinical.age`, `texture.cm_contrast`."""

VERSION = 1
"""Of what a feature is: features that another version kept are computed again."""


@dataclass(frozen=True)
class FeatureTable:
    """Features (images, columns) with NaN where not known, named `kind.name`; rows are of `records`, in order."""

    records: tuple[PairRecord, ...]
    columns: tuple[str, ...]
    values: NDArray[np.float64]

    def of(self, columns: Sequence[str]) -> NDArray[np.float64]:
        """The named columns, (images, n), NaN in those that the table lacks."""
        place = {name: i for i, name in enumerate(self.columns)}
        found = np.full((len(self.records), len(columns)), np.nan)
        for i, name in enumerate(columns):
            if name in place:
                found[:, i] = self.values[:, place[name]]
        return found


def columns_of(model: str, columns: Sequence[str]) -> tuple[str, ...]:
    """The columns of a model such as "DT", in their order."""
    prefixes = tuple(f"{KINDS[letter]}." for letter in model)
    return tuple(name for name in columns if name.startswith(prefixes))


def image_features(
    half: Half,
    encoder: NetworkPredictor,
    *,
    bins: int,
    region: NDArray[np.bool_] | None = None,
    textures: bool = True,
) -> dict[str, float]:
    """The texture and deep features of a half image by name.

    Textures are of the normalised image within `region` (H, W) bool, the encoder's own without one; deep features are
    the encoder's, averaged over the image and over the region. Neither the BMD nor anything else of a CT is looked at
    where no `region` is given. Without `textures`, or where no region is seen, these are left out.
    """
    import torch

    from hierbmd.models.novelty import feature_means, region_means

    read, features = encoder.read_half(half, readings=1)
    inside = read.region_mask if region is None else region
    named = {f"deep.image_{i:03d}": float(x) for i, x in enumerate(feature_means(features)[0])}
    if inside is None or not inside.any():
        return named
    weight = torch.from_numpy(inside.astype(np.float32))[None, None]
    means = torch.cat(region_means(features, weight), dim=1)[0]
    named |= {f"deep.region_{i:03d}": float(x) for i, x in enumerate(means)}
    if not textures:
        return named
    pixels = encoder.card.normalisation.apply(half.pixels)
    found = texture_features(pixels, inside, pixel_mm=half.geometry.camera.pixel_mm, bins=bins)
    return {**named, **{f"texture.{name}": value for name, value in found.items()}}


def clinical_features(clinical: Clinical) -> dict[str, float]:
    """The clinical variables by name, NaN where not known."""
    return {f"clinical.{name}": value for name, value in clinical.numbers().items()}


@dataclass(frozen=True)
class Recipe:
    """How the features of a data set's images are made: by which encoder (its folder and hash), within which region."""

    encoder: Path
    encoder_sha256: str
    bins: int
    registered: bool = False

    def key(self, half: Half, region: NDArray[np.bool_] | None = None) -> str:
        """A hash of all that the features of a half image hang on."""
        images = [pixels_sha256(half.pixels), "" if region is None else pixels_sha256(region)]
        made_of = [VERSION, self.encoder_sha256, self.bins, *half.geometry.camera.pixel_mm, *images]
        return hashlib.sha256(json.dumps(made_of).encode()).hexdigest()


@dataclass(frozen=True)
class _Task:
    dataset: Dataset
    record: PairRecord
    recipe: Recipe
    kept: Path


def feature_table(
    dataset: Dataset,
    records: Sequence[PairRecord],
    recipe: Recipe,
    kept: Path,
    *,
    workers: int = 1,
    on_image: Callable[[int, int], None] = lambda done, total: None,
) -> FeatureTable:
    """The features of the records' images; those in the folder `kept` that were made alike are taken from there.

    Errors as `Dataset.load`; MissingExtra without mirp; ProcessDied.
    """
    bare = Dataset(dataset.folder, dataset.card, ())
    tasks = [_Task(bare, record, recipe, kept) for record in records]
    found: dict[str, Mapping[str, float]] = {}
    for done, (task, features) in enumerate(in_processes(_features_of, tasks, workers=workers), start=1):
        if isinstance(features, ProcessDied):
            raise ProcessDied(features.what, where=task.record.pair_id, mend="fewer --workers, then call it again")
        found[task.record.pair_id] = features
        on_image(done, len(tasks))
    rows = [{**clinical_features(record.clinical), **found[record.pair_id]} for record in records]
    columns = tuple(dict.fromkeys(name for kind in KINDS.values() for name in _names(rows, kind)))
    values = np.array([[row.get(name, math.nan) for name in columns] for row in rows], dtype=np.float64)
    return FeatureTable(tuple(records), columns, values.reshape(len(rows), len(columns)))


def _names(rows: Sequence[Mapping[str, float]], kind: str) -> list[str]:
    return sorted({name for row in rows for name in row if name.startswith(f"{kind}.")})


def _features_of(task: _Task) -> dict[str, float]:
    pair, recipe = task.dataset.load(task.record), task.recipe
    half, region = half_of(pair, task.dataset), pair.region_mask > 0 if recipe.registered else None
    key = recipe.key(half, region)
    found = kept_features(task.kept, key)
    if found is None:
        encoder = encoder_of(recipe.encoder, recipe.encoder_sha256)
        found = image_features(half, encoder, bins=recipe.bins, region=region)
        plain = {name: x if math.isfinite(x) else None for name, x in found.items()}
        write_json(task.kept / f"{key}.json", plain)
    return found


def kept_features(kept: Path, key: str) -> dict[str, float] | None:
    """The features kept in a folder under a recipe's key, or None."""
    path = kept / f"{key}.json"
    if not path.is_file():
        return None
    return {name: math.nan if x is None else float(x) for name, x in read_json(path).items()}


@functools.lru_cache(maxsize=2)
def encoder_of(folder: Path, sha256: str) -> NetworkPredictor:
    """The trained stage in a folder, read once by a process; WrongWeights for an ensemble or another model."""
    from hierbmd.predict import NetworkPredictor, load_network_predictor

    found = load_network_predictor(folder)
    if not isinstance(found, NetworkPredictor):
        raise WrongWeights("an ensemble has no one encoder", where=folder, mend="give one run of synthesize or regress")
    require_matching(found.card, where=folder, sha256=sha256)
    return found
