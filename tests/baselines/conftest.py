"""A small data set with an encoder that nothing taught, and tables of features with known worth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hierbmd.baselines.radiomics.features import FeatureTable
from hierbmd.cli.main import main
from hierbmd.data.pairs import PairRecord
from hierbmd.geometry import Side, View
from hierbmd.io.dataset import read_dataset, write_view

AGES = {"p03": None}


@pytest.fixture(scope="session")
def one_image_each(readable_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`readable_dataset` with one image a patient, and an age, sex, height and weight for most."""
    dataset = read_dataset(readable_dataset)
    records = []
    for n, record in enumerate(r for r in dataset.records if r.pair_id.endswith("_left_0")):
        age = AGES.get(record.subject, 90.0 - 30.0 * record.bmd_g_cm2)
        source = "qct (internal calibration)" if record.subject == "p04" else "qct"
        records.append(replace(record, age=age, sex="FM"[n % 3 == 0], height_cm=160.0 + n % 7, bmd_source=source))
    folder = tmp_path_factory.mktemp("one_image_each")
    write_view(folder, replace(dataset, records=tuple(records)))
    return folder


@pytest.fixture(scope="session")
def encoder_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a stage-2 model with fresh weights that sees its region everywhere."""
    import torch

    from hierbmd.data.card import ModelCard, Readout
    from hierbmd.data.density import Material
    from hierbmd.data.halves import HalfFrame
    from hierbmd.io.weights import write_weights
    from hierbmd.models.density import DensityNet
    from hierbmd.models.registry import NETWORK, network_card
    from hierbmd.models.unet import UNet

    with torch.random.fork_rng():
        torch.manual_seed(3)
        network = DensityNet(UNet(widths=(4, 8)), ("total_hip",), mask=True)
    assert network.mask_head is not None
    torch.nn.init.constant_(network.mask_head.bias, 50.0)
    card = ModelCard(
        stage="synthesize",
        structures=("total_hip",),
        network=network_card(network),
        frame=HalfFrame((32, 64), (3.0, 3.0)),
        material=Material.HA,
        region="total_hip",
        readout=Readout(),
        simulated=True,
    )
    folder = tmp_path_factory.mktemp("encoder_run")
    write_weights(folder, {NETWORK + name: tensor for name, tensor in network.state_dict().items()}, card)
    return folder


def made_up_table(patients: int, *, seed: int, signal: float, noise_columns: int = 30) -> FeatureTable:
    """Two hips each of patients whose BMD a texture, a deep and a clinical feature follow, beside columns of noise."""
    random = np.random.default_rng(seed)
    bmd = np.clip(random.normal(0.8, 0.15, patients), 0.4, 1.3)
    records, rows = [], []
    for patient, mean in enumerate(bmd):
        for side in (Side.LEFT, Side.RIGHT):
            value = float(mean + random.normal(0, 0.02))
            records.append(_record(f"p{patient:03d}", side, value))
            own = signal * (value - 0.8) / 0.15 + random.normal(0, 1.0, 3)
            rows.append([*own, *random.normal(0, 1, noise_columns)])
    columns = ["clinical.age", "texture.cm_contrast", "deep.region_000"]
    columns += [f"texture.noise_{i:02d}" for i in range(noise_columns)]
    return FeatureTable(tuple(records), tuple(columns), np.array(rows))


def _record(subject: str, side: Side, bmd_g_cm2: float) -> PairRecord:
    return PairRecord(
        pair_id=f"{subject}_{side}",
        subject=subject,
        side=side,
        bmd_g_cm2=bmd_g_cm2,
        bmd_source="qct",
        bmd_qct_g_cm2=bmd_g_cm2,
        region_bmd_at_pose_g_cm2=bmd_g_cm2,
        outcomes={},
        radiograph="",
        radiograph_sha256="",
        view=View.AP,
        sdd_mm=1000.0,
        source_isocentre_mm=900.0,
        mirrored=False,
        split="train",
    )


@pytest.fixture(scope="session")
def table_of():
    """`made_up_table`."""
    return made_up_table


@pytest.fixture
def refused_by_evaluate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[[Path, Path, Any], str]:
    """What `evaluate` says, in one line, of a model on a data set whose card says otherwise; nothing is written."""

    def evaluate(model: Path, data: Path, changed: Any) -> str:
        dataset = read_dataset(data)
        write_view(tmp_path / "other", replace(dataset, card=replace(dataset.card, **changed)))
        arguments = ["--model", model, "--data", tmp_path / "other", "--out", tmp_path / "out"]
        assert main(["evaluate", *map(str, arguments)]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert not (tmp_path / "out").exists()
        return line

    return evaluate
