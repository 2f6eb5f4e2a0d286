"""The page and the table of a study."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from hierbmd.evaluation.files import METRICS_FILE
from hierbmd.io.atomic import atomic_path, write_json
from hierbmd.io.tables import write_table
from hierbmd.report import pictures, plots
from hierbmd.report.words import estimate, figure, number, table

TABLE_FILE = "study.csv"
REPORT_FILE = "report.html"

_FIGURES = {
    "pearson_r": ("Pearson r", ""),
    "rmse_g_cm2": ("RMSE", "g/cm2"),
    "auc_osteoporosis": ("AUC, osteoporosis", ""),
}
_COLUMNS = ("part", "what", "patients", "figure", "unit", "value", "low", "high", "reason")


def write_study(folder: str | Path, metrics: Mapping[str, Any]) -> None:
    """Write a study's study.csv, report.html and, last, metrics.json into a folder; the three say the same."""
    folder = Path(folder)
    write_table(folder / TABLE_FILE, _COLUMNS, _rows(metrics))
    page = Template(_resource("study.html")).substitute(_sections(metrics), style=_resource("style.css"))
    with atomic_path(folder / REPORT_FILE) as temporary:
        temporary.write_text(page, encoding="utf-8")
    write_json(folder / METRICS_FILE, dict(metrics))


def _resource(name: str) -> str:
    return resources.files("hierbmd.report").joinpath(name).read_text(encoding="utf-8")


def _figure_of(row: Mapping[str, Any], name: str, unit: str) -> dict[str, Any]:
    """A figure of flat keys as the others are."""
    found = {"value": row[name], "low": row[f"{name}_low"], "high": row[f"{name}_high"], "unit": unit}
    return found if f"{name}_reason" not in row else {**found, "reason": row[f"{name}_reason"]}


def _rows(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    rows = []
    for system, found in metrics["systems"].items():
        for name, (_, unit) in _FIGURES.items():
            rows.append({"part": "systems", "what": system, "patients": metrics["n_train"], "figure": name})
            rows[-1] |= _figure_of(found, name, unit)
    for system, found in metrics["paired"].items():
        for name in _FIGURES:
            what = f"{metrics['paired_against']} less {system}"
            rows.append({"part": "paired", "what": what, "figure": name, **found[name]})
    for point in metrics["learning_curve"]:
        for name, (_, unit) in _FIGURES.items():
            rows.append({"part": "learning curve", "what": point["system"], "patients": point["patients"]})
            rows[-1] |= {"figure": name, **_figure_of(point, name, unit)}
    for name, unit in (("pose_rms_sd_g_cm2", "g/cm2"), ("pose_rms_cv_percent", "%"), ("lsc_percent", "%")):
        rows.append({"part": "pose", "what": metrics["paired_against"], "figure": name})
        rows[-1] |= _figure_of(metrics, name, unit)
    for level in metrics["robustness"]:
        for name in ("mean_change_g_cm2", "sd_change_g_cm2", "within_lsc"):
            rows.append({"part": level["sweep"], "what": level["name"], "figure": name, **level[name]})
    return rows


def _sections(metrics: Mapping[str, Any]) -> dict[str, str]:
    return {
        "title": "Hierarchical learning, and what it is compared with",
        "lead": escape(
            f"{metrics['n_train']} patients trained on, {metrics['n_validation']} for the models' intervals, "
            f"{metrics['n_test']} never seen ({metrics['n_test_images']} images). Reference BMD: "
            f"{', '.join(metrics['bmd_sources'])}; learnt from: {', '.join(metrics['training_bmd_sources'])}."
        ),
        "banners": _banners(metrics),
        "systems": _systems(metrics),
        "curve": _curve(metrics),
        "pose": _pose(metrics),
        "compression": _compression(metrics),
        "provenance": _provenance(metrics),
        "footer": escape(metrics["research_use_only"]),
    }


def _banners(metrics: Mapping[str, Any]) -> str:
    texts = [metrics["research_use_only"]]
    if metrics["simulated"]:
        texts.insert(0, "SIMULATED: virtual patients and radiographs. Says nothing about clinical accuracy.")
    if metrics["quick"]:
        texts.insert(0, "QUICK RUN: the smallest run of every step. Its figures mean nothing.")
    return "".join(f'<p class="banner" role="note">{escape(text)}</p>' for text in texts)


def _systems(metrics: Mapping[str, Any]) -> str:
    rows = [
        [escape(_words(name)), *(estimate(_figure_of(found, key, unit)) for key, (_, unit) in _FIGURES.items())]
        for name, found in metrics["systems"].items()
    ]
    caption = (
        f"Test patients; 95 % intervals: {metrics['bootstrap_samples']} bootstrap samples of patients for r and RMSE, "
        "DeLong for the AUC (one row a patient, the lower hip)."
    )
    shown = table(["system", *(words for words, _ in _FIGURES.values())], rows, caption=caption)
    first = _words(metrics["paired_against"])
    rows = [
        [escape(f"{first} less {_words(name)}"), *(estimate(found[key]) for key in _FIGURES)]
        for name, found in metrics["paired"].items()
    ]
    caption = (
        "Paired differences on the same images, drawn together: an interval without zero in it is a difference at "
        "the 5 % level. Below zero in RMSE, above zero in r and AUC, the first is better."
    )
    shown += table(["difference", *(words for words, _ in _FIGURES.values())], rows, caption=caption)
    points = np.array(metrics["points"])
    scatter = pictures.scatter(points[:, 0], points[:, 1], mean_g_cm2=metrics["mean_predictor_g_cm2"])
    alt = f"Predicted against reference BMD of {len(points)} test images by the {first} system, with the identity line."
    return shown + figure(scatter, alt=alt, caption=f"The {first} system; each point is an image.")


def _words(system: str) -> str:
    return system.replace("_", " ")


def _curve(metrics: Mapping[str, Any]) -> str:
    points = metrics["learning_curve"]
    if len({point["patients"] for point in points}) < 2:
        return '<p class="note">One size only: no curve.</p>'
    shown = []
    for name, (words, unit) in list(_FIGURES.items())[:2]:
        series: dict[str, list[plots.Point]] = {point["system"]: [] for point in points}
        for point in points:
            if point[name] is not None:
                ends = point[f"{name}_low"], point[f"{name}_high"]
                series[point["system"]].append(plots.Point(point["patients"], point[name], *ends))
        axis = f"{words} ({unit})" if unit else words
        drawn = plots.lines(series, x="patients trained on", y=axis, log_x=True)
        shown.append(figure(drawn, alt=f"{words} against the number of training patients, by system."))
    rows = [
        [
            escape(_words(point["system"])),
            str(point["patients"]),
            str(point["epochs"]),
            *(estimate(_figure_of(point, key, unit)) for key, (_, unit) in _FIGURES.items()),
        ]
        for point in points
    ]
    caption = (
        "At one number of patients every system makes as many optimisation steps (epochs over the same pairs in "
        "batches of one size; the hierarchy's stages are added up). Smaller samples are parts of the larger."
    )
    head = ["system", "patients", "epochs", *(words for words, _ in _FIGURES.values())]
    return f'<div class="side-by-side">{"".join(shown)}</div>' + table(head, rows, caption=caption)


def _pose(metrics: Mapping[str, Any]) -> str:
    named = {
        "pose_rms_sd_g_cm2": ("RMS-SD", "g/cm2"),
        "lsc_g_cm2": ("least significant change (2.77 RMS-SD)", "g/cm2"),
        "pose_rms_cv_percent": ("RMS-CV", "%"),
        "lsc_percent": ("least significant change (2.77 RMS-CV)", "%"),
    }
    rows = [[escape(words), estimate(_figure_of(metrics, name, unit))] for name, (words, unit) in named.items()]
    caption = (
        f"The hierarchical system on the poses of {metrics['pose_hips']} hips, "
        f"{metrics['pose_degrees_of_freedom']} degrees of freedom (ISCD asks for 30); chi-square intervals. "
        "Published on clinical radiographs: RMS-CV 3.27 to 3.79 % (four poses; other data)."
    )
    return table(["precision over poses", "value"], rows, caption=caption)


def _compression(metrics: Mapping[str, Any]) -> str:
    levels = metrics["robustness"]
    if not levels:
        return '<p class="note">Not measured.</p>'
    points = [
        plots.Point(place, level["within_lsc"]["value"], level["within_lsc"]["low"], level["within_lsc"]["high"])
        for place, level in enumerate(levels)
        if level["within_lsc"]["value"] is not None
    ]
    shown = ""
    if points:
        drawn = plots.shares([level["name"] for level in levels], points, y="share within the LSC", limit=0.95)
        shown = figure(drawn, alt="Share of images whose BMD changes by less than the LSC, by level of compression.")
    rows = [
        [
            escape(level["name"]),
            estimate(level["within_lsc"]),
            estimate(level["mean_change_g_cm2"]),
            estimate(level["sd_change_g_cm2"]),
            number(level["largest_change_g_cm2"], "g/cm2"),
        ]
        for level in levels
    ]
    head = ["compression", "within the LSC", "mean change", "SD of the change", "largest |change|"]
    caption = f"{levels[0]['n_images']} images, applied to: {levels[0]['applied_to']}. Shares: Wilson over patients."
    return shown + table(head, rows, caption=caption)


def _provenance(metrics: Mapping[str, Any]) -> str:
    facts = {
        "data simulated": "yes" if metrics["simulated"] else "no",
        "seed": metrics["seed"],
        **{f"version of {name}": version for name, version in metrics["versions"].items()},
        **{f"seconds for {name}": f"{seconds:.0f}" for name, seconds in metrics["seconds"].items()},
    }
    return table(["fact", "value"], [[escape(str(k)), escape(str(v))] for k, v in facts.items()])
