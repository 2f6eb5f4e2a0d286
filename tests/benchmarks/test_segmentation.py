"""The atlas benchmark's own measures: known errors of balls, and a page that says what the files say."""

from __future__ import annotations

import json

import numpy as np
import pytest

from hierbmd.geometry import Grid

BONES = ("femur_left", "femur_right", "hip_left", "hip_right", "sacrum")


def _ball(grid: Grid, centre_mm: tuple[float, float, float], radius_mm: float) -> np.ndarray:
    places = np.moveaxis(np.indices(grid.shape), 0, -1) * grid.spacing_mm
    return np.linalg.norm(places - np.array(centre_mm), axis=-1) < radius_mm


def test_the_error_of_a_ball_that_is_too_large_or_elsewhere_is_known(bench):
    grid = Grid((50, 50, 50), np.diag([1.0, 1.0, 1.0, 1.0]))
    true = _ball(grid, (25.0, 25.0, 25.0), 15.0)
    errors_of = bench("segmentation").errors_of
    same = errors_of(true, true, grid)
    assert (same["dice"], same["median_mm"], same["p95_mm"]) == (1.0, 0.0, 0.0)
    larger = errors_of(_ball(grid, (25.0, 25.0, 25.0), 18.0), true, grid)
    assert larger["mean_mm"] == pytest.approx(3.0, abs=0.3)
    assert larger["dice"] == pytest.approx(2 * 15**3 / (15**3 + 18**3), abs=0.01)
    moved = errors_of(_ball(grid, (29.0, 25.0, 25.0), 15.0), true, grid)
    # Along the normal a shift is |cos|, whose mean over a sphere is a half.
    assert moved["mean_mm"] == pytest.approx(2.0, abs=0.4)
    assert errors_of(np.zeros_like(true), true, grid)["dice"] == 0.0


def _files(error_of) -> dict[str, object]:
    """Four pairs whose bones have an offset each, and the error that `error_of` gives for it."""
    rng = np.random.default_rng(0)

    def bone(offset_mm: float) -> dict[str, object]:
        mean_mm = float(error_of(offset_mm))
        quality = {"edge_offset_mm": offset_mm, "edge_share": 1 - offset_mm / 8, "edge_rise_hu": 300 - 10 * offset_mm}
        quality |= {"explained": 0.9 + 0.01 * rng.random(), "bone_share": 0.8 + 0.01 * rng.random()}
        error = {"dice": 1.0 - 0.05 * mean_mm, "median_mm": mean_mm, "mean_mm": mean_mm, "p95_mm": 2 * mean_mm}
        return {"quality": quality, "error": error}

    def fit(low: float, high: float, refused: list[str]) -> dict[str, object]:
        return {"bones": {name: bone(float(rng.uniform(low, high))) for name in BONES}, "refused": refused}

    files: dict[str, object] = {
        f"pair_{n:02d}_{n + 1:02d}": {
            "cpu_s": 40.0,
            "found": {"1": fit(0.8, 1.2, []), "0.0": fit(3.0, 6.0, ["wrong"]), "0.5": fit(1.5, 3.0, ["wrong"])},
        }
        for n in range(4)
    }
    return files


def test_the_page_says_what_the_files_say(bench, tmp_path):
    page = bench("segmentation_page")
    on = bench("machine").machine(1) | {"patients": 4, "spacing_mm": 3.0}
    steps = [{"step": "calibrate", "wall_s": 20.0, "cpu_s": 30.0, "peak_mb": 7000.0}]
    whole = {"machine": on, "shape": [4, 4, 4], "spacing_mm": 1.0, "interval_mm": 2.0, "steps": steps}
    whole["bmd_g_cm2"] = {"by atlas": {"total_hip_left": 0.882}, "true": {"total_hip_left": 0.9}}
    whole["dice"] = {"femur_left": 0.9654}
    files = _files(lambda offset: 0.5 * offset) | {"machine": on, "whole_patient": whole}
    page.write_page(files, tmp_path / "page.md", tmp_path)
    text = (tmp_path / "page.md").read_text()
    assert "| `edge_offset_mm` | 1.00 | 1.00 | 1.00 |" in text
    assert "error = 0.00 mm + 0.50 * `edge_offset_mm`" in text or "error = -0.00 mm + 0.50" in text
    assert "met by every bone" in text
    assert "| one, stopped at 0 of the displacement | 4 | 4 | - |" in text
    assert "6 GB: missed." in text
    assert "| total hip left | 0.900 | 0.882 | -2.0 |" in text
    assert "femur left 0.965" in text
    assert (tmp_path / "atlas_quality.png").stat().st_size > 10_000
    assert len(json.loads((tmp_path / "page.json").read_text())["virtual"]) == 4 * 3 * len(BONES)
    page.write_page(_files(lambda offset: 3.0 * offset) | {"machine": on}, tmp_path / "page.md", tmp_path)
    assert "missed by some" in (tmp_path / "page.md").read_text()
