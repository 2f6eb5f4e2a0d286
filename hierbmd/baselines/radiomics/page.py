"""The page of a run of deep-radiomics: the seven models' AUC by place, triage, BMD, paired tests, what was selected."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from hierbmd.baselines.radiomics.results import PLACES, RESULTS_FILE
from hierbmd.io.atomic import read_json
from hierbmd.report import plots
from hierbmd.report.frame import provenance, write_page
from hierbmd.report.words import estimate, figure, number, table

REPORT_FILE = "report.html"

_TITLE = "Deep-radiomics: seven models of clinical, texture and deep features"
_SEEN = (
    "The encoder was trained on these patients, so it knows their BMD: the figures of the models with D are too good "
    "here."
)
_TRIAGE = {
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "ppv": "PPV",
    "npv": "NPV",
    "called": "share sent",
}
_PAIRED = "AUC differences on the same patients, DeLong's paired test (two-sided; 21 tests, p not corrected for them)."


def write_report(folder: str | Path) -> Path:
    """Write `report.html` from the results in a run's folder; returns the page."""
    results = read_json(Path(folder) / RESULTS_FILE)
    sections = {f"{place}: {PLACES[place]}": _place(place, results) for place in results["models"]}
    sections["selected features"] = _selected(results)
    sections["provenance"] = provenance({**results, "model": results["encoder"] + " (the encoder)"})
    path = Path(folder) / REPORT_FILE
    write_page(path, title=_TITLE, lead=_lead(results), metrics=results, sections=sections)
    return path


def _lead(results: Mapping[str, Any]) -> str:
    condition = results["condition"].replace("_", " ")
    return (
        f"{results['n_train_patients']} patients trained on; condition: {condition} by the T-score on "
        f"{results['reference_population']}; BMD: {', '.join(results['bmd_sources'])}. DXA is recommended from a "
        f"threshold chosen on training patients for a sensitivity of {results['sensitivity_asked']:g}."
    )


def _place(place: str, results: Mapping[str, Any]) -> str:
    models = results["models"][place]
    first = next(iter(models.values()))
    seen = place == "internal" and results["encoder_learned_from_the_training_patients"]
    note = f'<p class="note">{escape(_SEEN)}</p>' if seen else ""
    bars = [
        plots.Point(at, found["auc"]["value"], found["auc"]["low"], found["auc"]["high"])
        for at, found in enumerate(models.values())
        if found["auc"]["value"] is not None
    ]
    drawn = ""
    if bars:
        picture = plots.levels(list(models), bars, y="AUC", limits=(0.5,), ends=(0.0, 1.04))
        drawn = figure(picture, alt=f"AUC with DeLong's interval of the seven models, {place}.")
    return note + drawn + _figures(models, first) + _paired(results["paired"][place])


def _figures(models: Mapping[str, Any], first: Mapping[str, Any]) -> str:
    rows = [
        [
            escape(name),
            estimate(found["auc"]),
            *_triage(found["recommend_dxa"]),
            *(estimate(found["bmd"][key]) for key in ("pearson_r", "rmse_g_cm2")),
        ]
        for name, found in models.items()
    ]
    caption = (
        f"{first['n_patients']} patients, {first['n_positive']} with the condition, {first['n_images']} images. AUC "
        "and the recommendation of DXA by patient (the worse hip; Wilson intervals), BMD by image."
    )
    return table(["model", "AUC", *_TRIAGE.values(), "Pearson r", "RMSE"], rows, caption=caption)


def _triage(found: Mapping[str, Any]) -> list[str]:
    """The cells of "recommend DXA"; a reason that holds for all of them is said once."""
    first, *others = (found[key] for key in _TRIAGE)
    alike = [{**one, "reason": None} if one.get("reason") == first.get("reason") else one for one in others]
    return [estimate(one) for one in (first, *alike)]


def _paired(tests: Mapping[str, Any]) -> str:
    if not tests:
        return ""
    rows = [
        [escape(name), estimate(found), "-" if found["p"] is None else number(found["p"])]
        for name, found in tests.items()
    ]
    return table(["difference", "AUC", "p"], rows, caption=_PAIRED)


def _selected(results: Mapping[str, Any]) -> str:
    rows = [
        [
            escape(name),
            str(results["offered"][name]),
            str(len(kept)),
            number(results["thresholds"][name]),
            escape(", ".join(kept)) or "-",
        ]
        for name, kept in results["selected"].items()
    ]
    return table(["model", "features", "kept", "threshold", "which"], rows)
