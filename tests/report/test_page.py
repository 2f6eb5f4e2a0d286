"""The report: one file with everything in it, readable without a screen, and true to what was written."""

from __future__ import annotations

import csv
import json
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from hierbmd.errors import BadConfig
from hierbmd.evaluation.files import write_evaluation
from hierbmd.evaluation.options import EvaluationOptions
from hierbmd.evaluation.run import evaluate
from hierbmd.io.dataset import read_dataset, write_dataset
from hierbmd.io.image import write_png
from hierbmd.report.page import write_report
from hierbmd.report.pictures import density_look
from hierbmd.report.words import estimate, number


class Page(HTMLParser):
    """What a browser would load, and whether the tags close."""

    VOID = ("meta", "link", "img", "br")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.images: list[dict[str, str]] = []
        self.loads: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        if tag == "img":
            self.images.append(values)
        self.loads += [v for k, v in attrs if k in ("src", "href") and not v.startswith("data:")]
        self.loads += [tag] if tag in ("script", "link", "iframe") else []
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture(scope="module")
def evaluated(hip_dataset, blob_reader, tmp_path_factory):
    reader = blob_reader(noise_g_cm2=0.03)
    found = evaluate(reader, read_dataset(hip_dataset), EvaluationOptions(bootstrap_samples=200, shown=2))
    folder = tmp_path_factory.mktemp("evaluated")
    write_evaluation(folder, found, model=reader.card)
    return folder


@pytest.fixture(scope="module")
def report(evaluated, hip_dataset):
    return write_report(evaluated, hip_dataset)


def read_page(path):
    page = Page()
    page.feed(path.read_text())
    assert page.open == []
    return page, re.sub(r"\s+", " ", " ".join(page.text))


def test_one_file_with_everything_in_it(report):
    page, text = read_page(report)
    assert page.loads == []
    assert "url(" not in report.read_text()
    assert "SIMULATED" in text
    assert "Research use only" in text
    # Scatter, Bland-Altman, then a radiograph and a density picture for each of two patients.
    assert len(page.images) == 2 + 2 * 2
    assert all(len(image["alt"]) > 20 for image in page.images)


def test_the_figures_are_those_of_the_metrics(report, evaluated):
    _, text = read_page(report)
    metrics = json.loads((evaluated / "metrics.json").read_text())
    assert f"{metrics['pearson_r']:.3f}" in text
    assert f"{metrics['mean_predictor_rmse_g_cm2']:.3f} g/cm2" in text
    # The mean predictor's Pearson r, ICC, SEE and slope.
    assert text.count("- not defined: predictions are constant") == 4
    assert "12 patients of the test split" in text


def test_no_patient_is_named(report):
    text = re.sub(r"data:image/[^\"]*", "", report.read_text())
    assert not re.search(r"\bp\d\d\b|p\d\d_", text)


def test_overlays_and_refusals_of_the_data_set_are_shown_and_escaped(evaluated, hip_dataset):
    rows = (evaluated / "density").iterdir()
    shown = min(int(path.stem.split("_")[1]) for path in rows)
    with (evaluated / "predictions.csv").open() as stream:
        pair_id = list(csv.DictReader(stream))[shown - 1]["pair_id"]
    overlay, refusals = hip_dataset / "qc" / f"{pair_id}.png", hip_dataset / "refusals.csv"
    write_png(overlay, np.zeros((8, 8)))
    refusals.write_text("subject,side,stage,error_class,reason\np99,left,register,Outcome,<b>diverged</b>\n")
    try:
        page, text = read_page(write_report(evaluated, hip_dataset))
    finally:
        overlay.unlink()
        refusals.unlink()
    # The overlay holds the radiograph, too, and takes its place.
    assert len(page.images) == 2 + 2 * 2
    assert sum("outlines of the registered bones" in image["alt"] for image in page.images) == 1
    assert "<b>diverged</b>" in text
    assert "p99" not in text


def test_patients_are_headed_by_their_place_and_side(report):
    _, text = read_page(report)
    assert re.search(r"Patient 1 of 2: (left|right) hip .{0,40}row \d+ of predictions\.csv", text)
    assert "Patient 2 of 2" in text


def test_density_images_share_one_frame_and_one_scale():
    pairs = []
    for top, left, level in ((20, 10, 0.5), (26, 12, 1.0)):
        true = np.zeros((64, 32), np.float32)
        true[top : top + 24, left : left + 12] = level
        predicted = true + 0.2 * (true > 0)
        predicted[0, 0] = 1.0  # a speck far from any true region does not widen the frame
        pairs.append((predicted.astype(np.float32), true))
    pairs[0][1][22, 12] = 40.0  # nor does one bright pixel of many hundreds darken the rest
    look = density_look(pairs)
    assert (look.rows.start, look.rows.stop) == (20 - 4, 50 + 4)
    assert (look.columns.start, look.columns.stop) == (10 - 2, 24 + 2)
    assert look.peak_g_cm2 == pytest.approx(1.2, rel=0.01)
    assert look.difference_g_cm2 == pytest.approx(0.2, rel=0.01)


def test_a_report_without_any_bone_shows_the_whole_frame():
    empty = np.zeros((8, 6), np.float32)
    look = density_look([(empty, empty)])
    assert (look.rows, look.columns, look.peak_g_cm2) == (slice(0, 8), slice(0, 6), 1.0)


def test_a_folder_without_results_is_refused(tmp_path, hip_dataset):
    with pytest.raises(BadConfig, match=r"metrics\.json"):
        write_report(tmp_path, hip_dataset)


def test_numbers_in_words():
    assert number(-0.12345, "g/cm2") == "\N{MINUS SIGN}0.123 g/cm2"
    assert number(-1e-18) == "0.000"
    assert number(None) == "-"
    both = {"value": 0.9, "low": 0.8, "high": 0.95, "unit": ""}
    assert estimate(both) == '0.900 <span class="interval">(0.800 to 0.950)</span>'
    assert "x &lt; y" in estimate({"value": None, "low": None, "high": None, "unit": "", "reason": "x < y"})


def test_a_radiograph_with_burned_in_annotation_is_withheld(evaluated, hip_dataset, tmp_path):
    folder = tmp_path / "dataset"
    shutil.copytree(hip_dataset, folder)
    dataset = read_dataset(folder)
    write_dataset(folder, dataset.card, [replace(r, burned_in_annotation=True) for r in dataset.records])
    shutil.copytree(evaluated, tmp_path / "evaluated")
    page, text = read_page(write_report(tmp_path / "evaluated", folder))
    assert text.count("Image withheld: the radiograph carries burned-in annotation.") == 2
    assert len(page.images) == 2 + 2
