"""The page and the table of a study."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from hierbmd.data.site import site_of
from hierbmd.evaluation.files import METRICS_FILE
from hierbmd.io.atomic import write_json
from hierbmd.io.tables import write_table
from hierbmd.report import pictures
from hierbmd.report.frame import provenance, write_page
from hierbmd.report.sections import IMAGE_FIGURES, SYSTEM_FIGURES, curve, figure_of, robustness, systems, words_of
from hierbmd.report.words import estimate, figure, table

TABLE_FILE = "study.csv"
REPORT_FILE = "report.html"

_TITLE = "Hierarchical learning, and what it is compared with"
_CURVE_NOTE = (
    "At one number of patients every system that counts epochs makes as many optimisation steps (epochs over the same "
    "pairs in batches of one size; the hierarchy's stages are added up). Smaller samples are parts of the larger."
)
_COLUMNS = ("part", "what", "patients", "figure", "unit", "value", "low", "high", "reason")


def write_study(folder: str | Path, metrics: Mapping[str, Any]) -> None:
    """Write a study's study.csv, report.html and, last, metrics.json into a folder; the three say the same."""
    folder = Path(folder)
    write_table(folder / TABLE_FILE, _COLUMNS, _rows(metrics))
    sections = _sections(metrics)
    write_page(folder / REPORT_FILE, title=_TITLE, lead=_lead(metrics), metrics=metrics, sections=sections)
    write_json(folder / METRICS_FILE, dict(metrics))


def _rows(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    rows = _system_rows(metrics, metrics["n_train"])
    for point in metrics["learning_curve"]:
        for name, (_, unit) in SYSTEM_FIGURES.items():
            rows.append({"part": "learning curve", "what": point["system"], "patients": point["patients"]})
            rows[-1] |= {"figure": name, **figure_of(point, name, unit)}
    rows += _pose_rows("pose", metrics)
    for level in metrics["robustness"]:
        for name in ("mean_change_g_cm2", "sd_change_g_cm2", "within_lsc"):
            rows.append({"part": level["sweep"], "what": level["name"], "figure": name, **level[name]})
    if "transfer" in metrics:
        found = metrics["transfer"]
        rows += _system_rows(found, metrics["n_train"], prefix="transfer: ") + _pose_rows("transfer: pose", found)
        rows += [
            {"part": "transfer: density image", "what": found["paired_against"], "figure": name, **figure}
            for name, figure in found["density_image"].items()
        ]
    return rows


def _system_rows(compared: Mapping[str, Any], patients: int, *, prefix: str = "") -> list[dict[str, Any]]:
    rows = []
    for system, found in compared["systems"].items():
        for name, (_, unit) in SYSTEM_FIGURES.items():
            rows.append({"part": f"{prefix}systems", "what": system, "patients": patients, "figure": name})
            rows[-1] |= figure_of(found, name, unit)
    for system, found in compared["paired"].items():
        for name in SYSTEM_FIGURES:
            what = f"{compared['paired_against']} less {system}"
            rows.append({"part": f"{prefix}paired", "what": what, "figure": name, **found[name]})
    return rows


def _pose_rows(part: str, metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    units = {"pose_rms_sd_g_cm2": "g/cm2", "pose_rms_cv_percent": "%", "lsc_percent": "%"}
    what = metrics["paired_against"]
    return [
        {"part": part, "what": what, "figure": name, **figure_of(metrics, name, unit)} for name, unit in units.items()
    ]


def _lead(metrics: Mapping[str, Any]) -> str:
    return (
        f"{metrics['n_train']} patients trained on, {metrics['n_validation']} for the models' intervals, "
        f"{metrics['n_test']} never seen ({metrics['n_test_images']} images). Reference BMD: "
        f"{', '.join(metrics['bmd_sources'])}; learnt from: {', '.join(metrics['training_bmd_sources'])}."
    )


def _sections(metrics: Mapping[str, Any]) -> dict[str, str]:
    return {
        "The systems": systems(metrics, bootstrap_samples=metrics["bootstrap_samples"], region=metrics["region"])
        + _scatter(metrics),
        "Learning curve": f'<p class="note">{escape(_CURVE_NOTE)}</p>' + curve(metrics["learning_curve"]),
        "Pose": _pose(metrics, metrics["region"]),
        "Compression": robustness(metrics["robustness"], figure_of(metrics, "lsc_g_cm2", "g/cm2")),
        **({"Patients of another source": _transfer(metrics)} if "transfer" in metrics else {}),
        "How this came about": provenance(metrics),
    }


def _transfer(metrics: Mapping[str, Any]) -> str:
    found = metrics["transfer"]
    lead = (
        f"{found['n_images']} images of {found['n_subjects']} patients that are not of the study's source; the systems "
        f"are those trained on all {metrics['n_train']} patients, and nothing is fitted anew. Reference BMD: "
        f"{', '.join(found['bmd_sources'])}."
    )
    if found["real_cts"]:
        lead += (
            f" Made from {found['real_cts']} real CT in many states, with simulated radiographs: they share its "
            "anatomy, so the intervals are narrower than those of as many people would be."
        )
    rows = [[escape(words), estimate(found["density_image"][name])] for name, words in IMAGE_FIGURES.items()]
    return (
        f'<p class="note">{escape(lead)}</p>'
        + systems(found, bootstrap_samples=metrics["bootstrap_samples"], region=metrics["region"])
        + _pose(found, metrics["region"])
        + table(["density image", "value"], rows, caption="The hierarchical system, mean over the images.")
    )


def _scatter(metrics: Mapping[str, Any]) -> str:
    points, first = np.array(metrics["points"]), words_of(metrics["paired_against"])
    drawn = pictures.scatter(points[:, 0], points[:, 1], mean_g_cm2=metrics["mean_predictor_g_cm2"])
    alt = f"Predicted against reference BMD of {len(points)} test images by the {first} system, with the identity line."
    return figure(drawn, alt=alt, caption=f"The {first} system; each point is an image.")


def _pose(metrics: Mapping[str, Any], region: str) -> str:
    named = {
        "pose_rms_sd_g_cm2": ("RMS-SD", "g/cm2"),
        "lsc_g_cm2": ("least significant change (2.77 RMS-SD)", "g/cm2"),
        "pose_rms_cv_percent": ("RMS-CV", "%"),
        "lsc_percent": ("least significant change (2.77 RMS-CV)", "%"),
    }
    rows = [[escape(words), estimate(figure_of(metrics, name, unit))] for name, (words, unit) in named.items()]
    caption = (
        f"The hierarchical system on the poses of {metrics['pose_hips']} {site_of(region).counted}, "
        f"{metrics['pose_degrees_of_freedom']} degrees of freedom (ISCD asks for 30); chi-square intervals. "
        "Published on clinical radiographs: RMS-CV 3.27 to 3.79 % (four poses; other data)."
    )
    return table(["precision over poses", "value"], rows, caption=caption)
