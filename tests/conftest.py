"""Shared fixtures: the real data, where there is any, and a tiny made-up data set."""

from __future__ import annotations

import importlib
import os
import sys
import zlib
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from hierbmd.options import option

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

    from hierbmd.data.halves import Half
    from hierbmd.data.pairs import TrainingPair

_ROOT = Path(__file__).resolve().parents[1]

if not Path("/dev/nvidiactl").exists():
    # Triton reads this when it is imported: without a GPU its kernels are tested in its interpreter.
    os.environ.setdefault("TRITON_INTERPRET", "1")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data: HIERBMD_DATA, or shared/data beside the project; tests that need it skip without."""
    folder = Path(os.environ.get("HIERBMD_DATA", _ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("no real data: set HIERBMD_DATA or put shared/data beside the project")
    return folder


@pytest.fixture(scope="session")
def bench() -> Iterator[Callable[[str], ModuleType]]:
    """`bench("pages")` is the module of that name in benchmarks/, which lie beside the package."""
    sys.path.insert(0, str(_ROOT / "benchmarks"))
    yield importlib.import_module
    sys.path.remove(str(_ROOT / "benchmarks"))


@pytest.fixture(scope="session")
def edited() -> Callable[..., Path]:
    """`edited(path, **tags)` sets tags of a DICOM file, takes those away that are None, and returns its path."""
    import pydicom

    def edit(path: Path, **tags: object) -> Path:
        dataset = pydicom.dcmread(path)
        for name, value in tags.items():
            if value is None:
                delattr(dataset, name)
            else:
                setattr(dataset, name, value)
        dataset.save_as(path)
        return path

    return edit


_SPLIT_OF = ["train"] * 10 + ["val"] * 2 + ["test"] * 12


@pytest.fixture(scope="session")
def hip_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of 24 made-up patients (10 train, 2 val, 12 test), both hips, two poses: blobs of known mean density.

    The radiograph is 2 + the true density image, so that a reader can be written in a line; frame 32 x 64 px.
    """
    from hierbmd.data.halves import HalfFrame
    from hierbmd.data.pairs import DatasetCard
    from hierbmd.geometry import View
    from hierbmd.io.dataset import write_dataset, write_pair

    folder = tmp_path_factory.mktemp("hip_dataset")
    generator = np.random.default_rng(11)
    pairs = []
    for patient, split in enumerate(_SPLIT_OF):
        bmd_g_cm2 = float(generator.uniform(0.55, 1.15))
        for side in ("left", "right"):
            for pose in range(2):
                pairs.append(_blob_pair(f"p{patient:02d}", side, pose, bmd_g_cm2, split=split))
                write_pair(folder, pairs[-1])
    card = DatasetCard(HalfFrame((32, 64), (3.0, 3.0)), view=View.AP, simulated=True)
    write_dataset(folder, card, [pair.record for pair in pairs])
    return folder


def _blob_pair(subject: str, side: str, pose: int, bmd_g_cm2: float, *, split: str) -> TrainingPair:
    from hierbmd.data.pairs import PairRecord, TrainingPair
    from hierbmd.data.splits import pixels_sha256
    from hierbmd.geometry import Side, View

    rows, columns = np.mgrid[:64, :32]
    blob = np.clip(1.0 - ((rows - 30 - pose) ** 2 + (columns - 16) ** 2) / 150.0, 0, None)
    mask = blob > 0
    region = np.where(mask, blob * bmd_g_cm2 / blob[mask].mean(), 0).astype(np.float32)
    radiograph = region + np.float32(2)
    record = PairRecord(
        pair_id=f"{subject}_{side}_{pose}",
        subject=subject,
        side=Side(side),
        bmd_g_cm2=bmd_g_cm2,
        bmd_source="qct",
        bmd_qct_g_cm2=bmd_g_cm2,
        region_bmd_at_pose_g_cm2=bmd_g_cm2,
        outcomes={"hip": "converged", "femur": "converged"},
        radiograph=f"{subject}_{pose}.dcm",
        radiograph_sha256=pixels_sha256(radiograph),
        view=View.AP,
        sdd_mm=1000.0,
        source_isocentre_mm=900.0,
        mirrored=side == "left",
        split=split,
    )
    return TrainingPair(record, radiograph, np.stack([region, region]), region, mask.astype(np.uint8))


class BlobReader:
    """A Predictor for `hip_dataset`: the density is the radiograph - 2, its region mean the BMD, both off as told."""

    def __init__(self, *, gain: float = 1.0, offset_g_cm2: float = 0.0, noise_g_cm2: float = 0.0) -> None:
        from hierbmd.data.card import ModelCard
        from hierbmd.data.density import Material
        from hierbmd.data.halves import HalfFrame

        self.gain, self.offset_g_cm2, self.noise_g_cm2 = gain, offset_g_cm2, noise_g_cm2
        self.card = ModelCard(
            stage="regress",
            structures=("total_hip",),
            network={},
            frame=HalfFrame((32, 64), (3.0, 3.0)),
            material=Material.HA,
            region="total_hip",
            simulated=True,
            sha256="0123456789abcdef",
        )

    def predict_half(self, half: Half) -> Any:
        from hierbmd.data.density import Bmd, DensityMap

        noise = np.random.default_rng(zlib.crc32(half.pixels.tobytes() + half.side.encode())).normal(
            0, self.noise_g_cm2 or 1e-12
        )
        density = half.pixels - np.float32(2)
        value = self.gain * float(density[density > 0].mean()) + self.offset_g_cm2 + noise
        interval = (value - 0.05, value + 0.05)
        return SimpleNamespace(
            density=DensityMap(density, half.geometry.camera.pixel_mm, "total_hip"),
            bmd=Bmd(value, "total_hip", half.side, interval_g_cm2=interval),
        )


@pytest.fixture(scope="session")
def blob_reader() -> type[BlobReader]:
    """The class of predictors for `hip_dataset`."""
    return BlobReader


@pytest.fixture(scope="session")
def readable_dataset(hip_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`hip_dataset` with a strip of one brightness in each radiograph, so that density outlasts the normalisation."""
    from dataclasses import replace

    from hierbmd.io.dataset import read_dataset, write_dataset, write_pair

    folder = tmp_path_factory.mktemp("readable_dataset")
    dataset = read_dataset(hip_dataset)
    for record in dataset.records:
        pair = dataset.load(record)
        radiograph = pair.radiograph.copy()
        radiograph[:4] = 6.0
        write_pair(folder, replace(pair, radiograph=radiograph))
    write_dataset(folder, dataset.card, dataset.records)
    return folder


TINY = {
    "model.discriminator.layers": 1,
    "model.discriminator.filters": 4,
    "trainer.check_val_every_n_epoch": 5,
    "trainer.accelerator": "cpu",
    "samples_every": 0,
}
"""Overrides for runs of seconds."""


@pytest.fixture(scope="session")
def tiny_runs(readable_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The runs of the three stages on `readable_dataset`, by stage: a few seconds of training, small networks."""
    from hierbmd.training.run import train

    folder = tmp_path_factory.mktemp("runs")
    runs = {stage: folder / stage for stage in ("decompose", "synthesize", "regress")}
    first = {"model.generator.init_args.widths": [6, 12, 16], "trainer.max_epochs": 10}
    options = {"data": readable_dataset, "progress": False}
    train("decompose", out=runs["decompose"], overrides={**TINY, **first}, **options)
    train(
        "synthesize",
        out=runs["synthesize"],
        start_from=runs["decompose"],
        overrides={**TINY, "trainer.max_epochs": 15},
        **options,
    )
    plain = {key: value for key, value in TINY.items() if "discriminator" not in key}
    train(
        "regress",
        out=runs["regress"],
        start_from=runs["synthesize"],
        overrides={**plain, "trainer.max_epochs": 5},
        **options,
    )
    return runs


@pytest.fixture
def constant(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module of one more baseline, `constant`, which says one value of everybody."""
    import sys
    from types import ModuleType

    from hierbmd.baselines import registry

    module: Any = ModuleType("made_up_baseline")
    module.Options, module.fit, module.load = ConstantOptions, _fit_constant, _load_constant
    module.require, module.study_options = (lambda region: None), (lambda part: ConstantOptions(0.7 + part.seed))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(registry.BASELINES, "constant", module.__name__)
    return module


@dataclass(frozen=True)
class ConstantOptions:
    """Says one value of everybody."""

    value_g_cm2: float = option("what it says, g/cm2")
    steps: int = option("how many steps it shows", 1)


def _fit_constant(data: Path, out: Path, options: ConstantOptions, *, progress: Any = None) -> Any:
    import torch

    from hierbmd.baselines.registry import silent
    from hierbmd.data.card import BASELINE, ModelCard
    from hierbmd.io.dataset import read_dataset
    from hierbmd.io.weights import write_weights

    here = read_dataset(data).card
    with (progress or silent)("steps") as report:
        report(options.steps, options.steps)
    network = {"value_g_cm2": options.value_g_cm2}
    card = ModelCard(BASELINE, (here.region,), network, here.frame, here.material, here.region, baseline="constant")
    return write_weights(out, {"nothing": torch.zeros(1)}, card)


def _load_constant(folder: Path) -> Any:
    from hierbmd.data.density import Bmd
    from hierbmd.io.weights import read_card
    from hierbmd.predict import Prediction

    card = read_card(folder)
    value = card.network["value_g_cm2"]
    return SimpleNamespace(
        card=card, predict_half=lambda half: Prediction(None, Bmd(value, card.region, half.side), None)
    )


@pytest.fixture
def tiny_settings() -> dict[str, Any]:
    """Overrides of `decompose` for runs of seconds."""
    return {**TINY, "model.generator.init_args.widths": [4, 8], "data.batch_size": 8}


@pytest.fixture(scope="session")
def coarse_patient() -> Any:
    """A virtual patient at 3 mm, with its truth: a whole hip that measures in a tenth of a second."""
    from hierbmd.simulation.options import PatientOptions
    from hierbmd.simulation.patient import virtual_patient

    return virtual_patient(1, PatientOptions(spacing_mm=3.0))


def _true_poses(volume: Any, labels: Any, radiograph: Any, start: Any, *, bones: Any, options: Any) -> Any:
    from hierbmd.registration.outcome import BoneRegistration, Outcome, Uncertainty

    sure = Uncertainty(*[0.1] * 8)
    return {b: BoneRegistration(b, start.camera_from_world, Outcome.CONVERGED, 0.9, sure, (), 0.0) for b in bones}


@pytest.fixture(scope="session")
def true_poses() -> Any:
    """A registrar that finds every bone, surely, where it starts."""
    return _true_poses


@pytest.fixture(scope="session")
def one_bone(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any, Any]:
    """A folder with a CT of one bone, femur_right, its labels, a radiograph and a start; the true pose; the labels.

    ct.nii.gz, labels.nii.gz, xray.mha (96 x 96 pixels of 2.5 mm, 1 m from the source) and start.json, off by 4 degrees
    and 8 mm.
    """
    from hierbmd.data.volume import LabelMap, Volume
    from hierbmd.geometry import Camera, Grid, Placement, ProjectionGeometry, View
    from hierbmd.io.geometry_file import write_geometry
    from hierbmd.io.image import write_labels, write_mha_image, write_volume
    from hierbmd.registration.body import make_body
    from hierbmd.rigid import moved, transform_points

    folder, name, camera = tmp_path_factory.mktemp("one_bone"), "femur_right", Camera(1000.0, (96, 96), (2.5, 2.5))
    matrix = np.diag([3.0, 3.0, 3.0, 1.0])
    matrix[:3, 3] = -60.0
    grid = Grid((41, 41, 41), matrix)
    p = transform_points(matrix, np.stack(np.meshgrid(*[np.arange(41)] * 3, indexing="ij"), -1).astype(float))
    head = np.linalg.norm((p - [-15, 0, 25]) / [18, 18, 18], axis=-1)
    shaft = np.linalg.norm((p - [12, 3, -10]) / [13, 12, 42], axis=-1)
    inside = np.minimum(head, shaft)
    hu = np.select([inside < 0.7, inside < 1.0, np.linalg.norm(p, axis=-1) < 58], [250.0, 1000.0, 40.0], -1000.0)
    ids = (inside < 1.0).astype(np.uint8) * 76
    volume, labels = Volume(hu.astype(np.float32), grid), LabelMap(ids, grid, {name: 76})
    truth = Placement(View.AP, np.zeros(3), 850.0).camera_from_world()
    body = make_body(name, volume, labels, structures=(name,), metal_hu=3000.0)
    image = body.image(camera, truth)[0]
    pixels = image + 0.01 * image.max() * np.random.default_rng(0).normal(size=image.shape)
    write_volume(folder / "ct.nii.gz", volume)
    write_labels(folder / "labels.nii.gz", labels)
    write_mha_image(folder / "xray.mha", pixels, pixel_mm=camera.pixel_mm)
    start = moved(truth, np.r_[np.radians([2, -2, 3]), 5.0, -6.0, 6.0], np.zeros(3))
    write_geometry(folder / "start.json", ProjectionGeometry(camera, start, View.AP))
    return folder, truth, labels
