"""Where the femur's BMD comes from, and what is refused before anything is trained."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hierbmd.baselines.lumbar.options import Options
from hierbmd.baselines.lumbar.targets import CATEGORIES, Truth, read_lumbar, references_of, truths
from hierbmd.data.density import DensityClass, Material
from hierbmd.data.pairs import HIP_OF_SCAN
from hierbmd.errors import BadConfig, BadManifest, SplitLeak, SuspectedUnit, Uncalibrated
from hierbmd.io.dataset import read_dataset, write_dataset

CT = dict(zip(HIP_OF_SCAN.values(), ("0.8", "0.9"), strict=True))


def test_the_manifest_comes_first_then_the_hips_then_the_ct(relabelled: Any, hip_dataset: Path) -> None:
    """Patients of the two made-up data sets share their names; p03 has all three sources, p01 two, p25 the CT."""

    def change(number: int, record: Any) -> Any:
        extra = {**CT, "femur_bmd_g_cm2": "0.7" if number == 3 else ""}
        return replace(record, extra=extra)

    found = truths(read_lumbar(relabelled(change)), Options(hips=hip_dataset))
    assert (found["p03"].bmd_g_cm2[1], found["p03"].femur_source) == (0.7, "manifest: femur_bmd_g_cm2")
    of_p01 = np.mean([r.bmd_g_cm2 for r in read_dataset(hip_dataset).records if r.subject == "p01"])
    assert found["p01"].bmd_g_cm2[1] == pytest.approx(of_p01)
    assert found["p01"].femur_source == "hips"
    assert (found["p25"].bmd_g_cm2[1], found["p25"].femur_source) == (pytest.approx(0.85), "ct")


def test_who_has_no_femur_is_unknown_and_nobody_at_all_is_refused(lumbar_dataset: Path, relabelled: Any) -> None:
    found = truths(read_lumbar(lumbar_dataset), Options())
    assert np.isnan(found["p05"].bmd_g_cm2[1])
    assert found["p05"].femur_source == ""
    with pytest.raises(BadManifest, match="no patient has a femur's BMD"):
        truths(read_lumbar(relabelled(lambda n, record: replace(record, extra={}))), Options())


@pytest.mark.parametrize(("text", "error"), [("dense", BadManifest), ("870", SuspectedUnit)])
def test_a_column_that_is_no_bmd_is_refused(relabelled: Any, text: str, error: type[Exception]) -> None:
    data = relabelled(lambda n, record: replace(record, extra={"femur_bmd_g_cm2": text}))
    with pytest.raises(error, match=text):
        truths(read_lumbar(data), Options())


def test_categories_are_the_t_scores_with_their_boundaries() -> None:
    references = references_of(Options())
    at = [r.mean_g_cm2 + t * r.sd_g_cm2 for r, t in zip(references, (-1.0 + 1e-9, -2.5 - 1e-9), strict=True)]
    categories = Truth(np.array(at), "").categories(references)
    assert [CATEGORIES[n] for n in categories] == [DensityClass.NORMAL, DensityClass.OSTEOPOROSIS]
    assert Truth(np.array([0.9, np.nan]), "").categories(references)[1] == -1
    with pytest.raises(BadConfig, match="of the total_hip"):
        references_of(Options(lumbar_reference="nhanes3-female-total-hip"))


def test_other_regions_and_torn_patients_are_refused(hip_dataset: Path, relabelled: Any) -> None:
    with pytest.raises(BadManifest, match="--region lumbar_l1_l4"):
        read_lumbar(hip_dataset)
    with pytest.raises(SplitLeak, match="two patients"):
        read_lumbar(relabelled(lambda n, record: replace(record, radiograph_sha256="same")))


def test_one_patient_in_two_splits_is_refused(relabelled: Any) -> None:
    def change(number: int, record: Any) -> Any:
        return replace(record, subject="p00") if number == 25 else record

    with pytest.raises(SplitLeak, match="one patient in two splits"):
        read_lumbar(relabelled(change))


def test_scales_of_two_materials_are_never_mixed(lumbar_dataset: Path, hip_dataset: Path, tmp_path: Path) -> None:
    hips = read_dataset(hip_dataset)
    write_dataset(tmp_path, replace(hips.card, material=Material.K2HPO4), hips.records)
    with pytest.raises(Uncalibrated, match="never mixed"):
        truths(read_lumbar(lumbar_dataset), Options(hips=tmp_path))
