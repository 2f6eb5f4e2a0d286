"""`hierbmd predict`: BMD and a density image from radiographs."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from hierbmd.cli._options import parse
from hierbmd.cli._radiograph import RadiographFlags
from hierbmd.data.clinical import Clinical
from hierbmd.data.density import (
    RESEARCH_USE_ONLY,
    T_SCORE_FOR,
    Reference,
    ReferenceChoice,
    reference_for,
    t_score_of,
)
from hierbmd.errors import BadConfig
from hierbmd.geometry import Side
from hierbmd.options import option

if TYPE_CHECKING:
    from hierbmd.data.halves import Half
    from hierbmd.data.radiograph import Radiograph
    from hierbmd.predict import Prediction, Predictor


@dataclass(frozen=True, kw_only=True)
class Options(RadiographFlags):
    """BMD with its interval, T-score and a density image from radiographs of hip or spine. Research use only."""

    radiographs: tuple[Path, ...] = option("radiographs: DICOM, PNG, TIFF, JPEG or MHA", positional=True)
    model: Path = option("the model's folder: a run of hierbmd train regress or synthesize")
    out: Path = option("folder for prediction.json, density.mha and density.png")
    reference: ReferenceChoice = option(
        "young-adult reference of the T-score; auto: the female one of the model's region, if there is one", "auto"
    )
    age: float | None = option("the patient's age in years; below 50 no T-score is given", None)
    sex: Literal["F", "M", "O", ""] = option("the patient's sex, for a model that asks for it", "")
    height_cm: float | None = option("the patient's height in cm, for a model that asks for it", None)
    weight_kg: float | None = option("the patient's weight in kg, for a model that asks for it", None)


def main(argv: list[str]) -> int:
    """Run `hierbmd predict`; returns the exit status."""
    options = parse("predict", Options, argv)
    for folder in predict(options):
        print(folder)
    return 0


def predict(options: Options) -> list[Path]:
    """Read every radiograph and write its predictions; returns their folders."""
    from hierbmd.data.halves import sides_shown
    from hierbmd.data.site import site_of
    from hierbmd.io.radiograph import read_wanted_side
    from hierbmd.predict import load_predictor, predict_radiograph

    predictor = load_predictor(options.model)
    reference = reference_for(options.reference, predictor.card.region)
    images = [(path, read_wanted_side(path, options.stated)) for path in map(Path, options.radiographs)]
    wanted = tuple(Side) if options.side in (None, "both", "none") else (Side(options.side),)
    site = site_of(predictor.card.region)
    tasks = [(path, image, side) for path, image in images for side in sides_shown(image, site) if side in wanted]
    names = dict(zip((path for path, _ in images), _folder_names([path for path, _ in images]), strict=True))
    clinical = Clinical(options.age, options.sex, options.height_cm, options.weight_kg)
    folders = []
    for path, image, side in tasks:
        prediction, half = predict_radiograph(image, predictor, side, clinical=clinical)
        name = f"{names[path]}_{side}" if image.side == Side.BOTH else names[path]
        folder = options.out if len(tasks) == 1 else options.out / name
        result = result_of(prediction, predictor, reference, age=options.age)
        result["radiograph_sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
        result["top_left_on_radiograph_px"] = _top_left_px(image, half)
        _write(folder, result, prediction, half)
        folders.append(folder)
    return folders


def result_of(
    prediction: Prediction, predictor: Predictor, reference: Reference | None, *, age: float | None = None
) -> dict[str, Any]:
    """The content of prediction.json; where there is no T-score, `t_score_reason` says why."""
    card, bmd = predictor.card, prediction.bmd
    t_score = t_score_of(bmd.value_g_cm2, reference, region=bmd.region, age_years=age)
    return {
        "bmd_g_cm2": bmd.value_g_cm2,
        "interval_g_cm2": None if bmd.interval_g_cm2 is None else list(bmd.interval_g_cm2),
        "interval_level": None if card.readout is None else card.readout.interval_level,
        "ensemble_sd_g_cm2": None if prediction.spread is None else prediction.spread.bmd_g_cm2,
        "t_score": t_score.value,
        "class": None if t_score.density_class is None else t_score.density_class.value,
        "t_score_reason": t_score.reason,
        "t_score_is_for": T_SCORE_FOR,
        "young_adult_percent": None if reference is None else reference.young_adult_percent(bmd.value_g_cm2),
        "reference": None if reference is None else reference.name,
        "region": bmd.region,
        "side": bmd.side.value,
        "material": bmd.material.value,
        "model": card.name,
        "simulated_training": card.simulated,
        "learned_from": list(card.training.get("bmd_sources", ())),
        "unlike_training": prediction.novelty,
        "flags": list(prediction.flags),
        **({"findings": dict(prediction.findings)} if prediction.findings else {}),
        "research_use_only": RESEARCH_USE_ONLY,
    }


def _folder_names(paths: Sequence[Path]) -> list[str]:
    """A folder's name for each file: its own, with as many of its folders before it as tell it from the others."""
    whole = [path.absolute() for path in paths]
    for last in ([path.stem for path in whole], [path.name for path in whole]):
        parts = [(*path.parts[1:-1], name) for path, name in zip(whole, last, strict=True)]
        for depth in range(1, max(map(len, parts)) + 1):
            names = ["_".join(one[-depth:]) for one in parts]
            if len(set(names)) == len(names):
                return names
    raise BadConfig("a radiograph twice", where=", ".join(map(str, paths)), mend="give each once")


def _top_left_px(image: Radiograph, half: Half) -> list[float]:
    """Where the density image's first pixel centre lies on the radiograph, (u, v) in its pixels."""
    to, source = half.geometry.camera, image.camera
    return [round(-to.centre_px[i] * to.pixel_mm[i] / source.pixel_mm[i] + source.centre_px[i], 3) for i in (0, 1)]


def _write(folder: Path, result: dict[str, Any], prediction: Prediction, half: Half) -> None:
    from hierbmd.io.prediction_files import PredictionImages, write_prediction

    value, interval = result["bmd_g_cm2"], result["interval_g_cm2"]
    spread = "" if interval is None else f" ({interval[0]:.3f} to {interval[1]:.3f})"
    side = "" if result["side"] == Side.NONE else f"{result['side']} "
    title = f"{side}{result['region'].replace('_', ' ')} BMD {value:.3f}{spread} g/cm2"
    title += "" if result["t_score"] is None else f", T {result['t_score']:.1f}"
    title += ", model trained on simulated images" * result["simulated_training"]
    upright = half.geometry.upright(half.pixels)
    sd = None if prediction.spread is None else prediction.spread.density
    images = PredictionImages(upright, prediction.density, sd)
    write_prediction(folder, result, images, title=title)
