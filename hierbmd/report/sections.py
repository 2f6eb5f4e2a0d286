"""Parts of a page that an evaluation and a study share: systems compared, learning curve, robustness."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from hierbmd.data.site import site_of
from hierbmd.report import plots
from hierbmd.report.words import estimate, figure, number, table

SYSTEM_FIGURES = {
    "pearson_r": ("Pearson r", ""),
    "rmse_g_cm2": ("RMSE", "g/cm2"),
    "auc_osteoporosis": ("AUC, osteoporosis", ""),
}
"""What is said of each system: key, words and unit."""

AGREEMENT_FIGURES = {
    "pearson_r": "Pearson r",
    "icc_2_1": "ICC(2,1): two-way random, absolute agreement, single",
    "rmse_g_cm2": "RMSE",
    "mae_g_cm2": "MAE",
    "see_g_cm2": "SEE of the regression on the prediction",
    "bias_g_cm2": "Bland-Altman bias (predicted - reference)",
    "limit_low_g_cm2": "Bland-Altman lower limit",
    "limit_high_g_cm2": "Bland-Altman upper limit",
    "calibration_slope": "calibration slope (1 is perfect)",
}
"""What is said of agreement: key and words."""

IMAGE_FIGURES = {
    "density_mae_g_cm2": "mean absolute error on the bone",
    "density_psnr_db": "PSNR on the bone",
    "density_ssim": "SSIM on the bone",
    "region_bias_g_cm2": "bias of the region's mean",
}
"""What is said of density images: key and words."""


def figure_of(row: Mapping[str, Any], name: str, unit: str) -> dict[str, Any]:
    """A figure of the flat keys NAME, NAME_low, NAME_high and NAME_reason as `estimate` takes it."""
    found = {"value": row[name], "low": row[f"{name}_low"], "high": row[f"{name}_high"], "unit": unit}
    return found if f"{name}_reason" not in row else {**found, "reason": row[f"{name}_reason"]}


def words_of(system: str) -> str:
    """A system's name for the eye."""
    return system.replace("_", " ")


def systems(compared: Mapping[str, Any], *, bootstrap_samples: int, region: str) -> str:
    """The tables of what `comparison` gives: every system's figures, and the paired differences to the first."""
    rows = [
        [escape(words_of(name)), *(estimate(figure_of(found, key, unit)) for key, (_, unit) in SYSTEM_FIGURES.items())]
        for name, found in compared["systems"].items()
    ]
    caption = (
        f"95 % intervals: {bootstrap_samples} bootstrap samples of patients for r and RMSE, DeLong for the AUC (one "
        f"row a patient{site_of(region).of_a_patient})."
    )
    shown = table(["system", *(words for words, _ in SYSTEM_FIGURES.values())], rows, caption=caption)
    first = words_of(compared["paired_against"])
    rows = [
        [escape(f"{first} less {words_of(name)}"), *(estimate(found[key]) for key in SYSTEM_FIGURES)]
        for name, found in compared["paired"].items()
    ]
    caption = (
        "Paired differences on the same images, drawn together: an interval without zero in it is a difference at "
        "the 5 % level. Below zero in RMSE, above zero in r and AUC, the first is better."
    )
    differences = table(["difference", *(words for words, _ in SYSTEM_FIGURES.values())], rows, caption=caption)
    named = list(compared["systems"].items())
    bars = [
        plots.Point(place, found["rmse_g_cm2"], found["rmse_g_cm2_low"], found["rmse_g_cm2_high"])
        for place, (_, found) in enumerate(named)
    ]
    drawn = plots.levels([words_of(name) for name, _ in named], bars, y="RMSE (g/cm2)")
    return shown + differences + figure(drawn, alt="RMSE with its interval, by system.")


def curve(points: Sequence[Mapping[str, Any]]) -> str:
    """The learning curve: RMSE and r against the number of patients, by system, and the table."""
    if len({point["patients"] for point in points}) < 2:
        return '<p class="note">One size only: no curve.</p>'
    shown = []
    for name, (words, unit) in list(SYSTEM_FIGURES.items())[:2]:
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
            escape(words_of(point["system"])),
            str(point["patients"]),
            str(point.get("epochs") or "-"),
            *(estimate(figure_of(point, key, unit)) for key, (_, unit) in SYSTEM_FIGURES.items()),
        ]
        for point in points
    ]
    head = ["system", "patients", "epochs", *(words for words, _ in SYSTEM_FIGURES.values())]
    return f'<div class="side-by-side">{"".join(shown)}</div>' + table(head, rows)


def robustness(levels: Sequence[Mapping[str, Any]], lsc: Mapping[str, Any]) -> str:
    """Every sweep: the change by level against the least significant change, the share within it, and the table."""
    if not levels:
        return '<p class="note">Not measured.</p>'
    note = f'<p class="note">Least significant change: {estimate(lsc)}.</p>'
    sweeps = dict.fromkeys(level["sweep"] for level in levels)
    return note + "".join(_sweep([level for level in levels if level["sweep"] == sweep], lsc) for sweep in sweeps)


def _sweep(levels: Sequence[Mapping[str, Any]], lsc: Mapping[str, Any]) -> str:
    names, sweep = [level["name"] for level in levels], levels[0]["sweep"]
    means = [(level["mean_change_g_cm2"]["value"], level["sd_change_g_cm2"]["value"]) for level in levels]
    bars = [plots.Point(place, mean, mean - sd, mean + sd) for place, (mean, sd) in enumerate(means)]
    limit = lsc["value"]
    drawn = plots.levels(names, bars, y="change of BMD (g/cm2)", limits=() if limit is None else (-limit, 0, limit))
    shown = figure(
        drawn,
        alt=f"Mean change of BMD with its SD by level of {sweep}, with the least significant change.",
        caption="Points: mean change; bars: one SD either way; dashed: the least significant change.",
    )
    shares = [
        plots.Point(place, level["within_lsc"]["value"], level["within_lsc"]["low"], level["within_lsc"]["high"])
        for place, level in enumerate(levels)
        if level["within_lsc"]["value"] is not None
    ]
    if shares:
        drawn = plots.levels(names, shares, y="share within the LSC", limits=(0.95,), ends=(0.0, 1.04))
        caption = "Share of images that change by no more than the least significant change; dashed: 95 %."
        shown += figure(drawn, alt=f"Share of images within the LSC by level of {sweep}.", caption=caption)
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
    head = [sweep, "within the LSC", "mean change", "SD of the change", "largest |change|"]
    caption = f"{levels[0]['n_images']} images, applied to: {levels[0]['applied_to']}. Shares: Wilson over patients."
    return f'<div class="side-by-side">{shown}</div>' + table(head, rows, caption=caption)
