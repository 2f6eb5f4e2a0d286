"""What Lightning and the run folder cost: training and inference as ratios to a plain PyTorch loop, in turn.

Made-up pairs of the size that `prepare` gives, the configuration that `hierbmd train decompose` has, one process, the
two ways in turn in every round. Training is timed from the first step to the last, with checkpoints, curves and
validation; the plain loop has the same loader, network, losses, clipping and optimizer, and nothing else.
About two and a half minutes on two quiet cores (`make bench-training`); on a busy machine the ratios are noise.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback

from hierbmd.data.density import Material
from hierbmd.data.halves import Half, HalfCamera, HalfFrame
from hierbmd.data.pairs import DatasetCard, PairRecord, TrainingPair
from hierbmd.data.radiograph import Radiograph
from hierbmd.data.splits import pixels_sha256
from hierbmd.geometry import Camera, Side, View
from hierbmd.io.atomic import write_json
from hierbmd.io.dataset import write_dataset, write_pair
from hierbmd.io.dicom_write import write_radiograph_dicom
from hierbmd.io.radiograph import read_radiograph
from hierbmd.predict import NetworkPredictor, load_predictor, predict_radiograph
from hierbmd.training import run
from hierbmd.training.stage import Begin

FRAME = HalfFrame()


class Clock(Callback):
    """Seconds from the first step to the end of training."""

    def on_train_batch_start(self, *_: Any) -> None:
        """Start, once."""
        if not hasattr(self, "start"):
            self.start = time.perf_counter()

    def on_train_end(self, *_: Any) -> None:
        """Stop."""
        self.seconds = time.perf_counter() - self.start


def make_pairs(folder: Path, count: int) -> None:
    """A data set of `count` training pairs and a tenth as many for validation, of smooth random images."""
    rng = np.random.default_rng(0)
    width, height = FRAME.size_px
    records = []
    for n in range(count + max(1, count // 10)):
        bones = np.kron(rng.random((2, height // 32, width // 32)), np.ones((1, 32, 32))).astype(np.float32)
        radiograph = (bones.sum(axis=0) + rng.normal(0, 0.05, (height, width))).astype(np.float32)
        record = PairRecord(
            pair_id=f"p{n}",
            subject=f"p{n}",
            side=Side.RIGHT,
            bmd_g_cm2=float(bones[1].mean()),
            bmd_source="qct",
            bmd_qct_g_cm2=float(bones[1].mean()),
            region_bmd_at_pose_g_cm2=float(bones[1].mean()),
            outcomes={"hip": "converged", "femur": "converged"},
            radiograph=f"p{n}.dcm",
            radiograph_sha256=pixels_sha256(radiograph),
            view=View.AP,
            sdd_mm=1000.0,
            source_isocentre_mm=900.0,
            mirrored=False,
            split="train" if n < count else "val",
        )
        write_pair(folder, TrainingPair(record, radiograph, bones, bones[1], (bones[1] > 0.5).astype(np.uint8)))
        records.append(record)
    write_dataset(folder, DatasetCard(FRAME, Material.HA, simulated=True), records)


def lightning_seconds(data: Path, out: Path, epochs: int) -> float:
    """Training as `hierbmd train decompose` does it."""
    clock, original = Clock(), run._trainer

    def timed(*args: Any, **kwargs: Any) -> Any:
        trainer = original(*args, **kwargs)
        trainer.callbacks.append(clock)
        return trainer

    run._trainer = timed
    try:
        run.train("decompose", data, out, overrides={"trainer.max_epochs": epochs}, progress=False)
    finally:
        run._trainer = original
    return clock.seconds


def plain_seconds(data: Path, epochs: int) -> float:
    """The same network and losses in a loop of ten lines."""
    cli = run.configure("decompose", [f"--data.folder={data}"])
    module, pairs = cli.model, cli.datamodule
    module.begin(Begin(pairs.dataset.card, 0.8))
    module.report = lambda *_: None
    module.to(memory_format=torch.channels_last)
    loader = pairs.train_dataloader()
    parameters = list(module.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=0.002, weight_decay=1e-4)
    start = time.perf_counter()
    for epoch in range(epochs):
        loader.sampler.set_epoch(epoch)
        for n, batch in enumerate(loader):
            optimizer.zero_grad()
            module.training_step(batch, n).backward()
            torch.nn.utils.clip_grad_norm_(parameters, 100.0)
            optimizer.step()
    return time.perf_counter() - start


def inference_seconds(predictor: NetworkPredictor, half: Half, repeats: int) -> tuple[list[float], list[float]]:
    """Seconds of `predict_half` and of the bare network on the same pixels, in turn."""
    whole, bare = [], []
    pixels = torch.from_numpy(predictor.card.normalisation.apply(half.pixels))[None, None]
    for _ in range(repeats):
        start = time.perf_counter()
        predictor.predict_half(half)
        middle = time.perf_counter()
        with torch.inference_mode():
            predictor.network(pixels)
        whole.append(middle - start)
        bare.append(time.perf_counter() - middle)
    return whole, bare


def write_whole_radiograph(path: Path) -> None:
    """A DICOM file of 3,000 x 2,500 pixels of 12 bits that shows both hips."""
    pixels = np.random.default_rng(1).normal(2.0, 0.2, (2500, 3000)).astype(np.float32)
    write_radiograph_dicom(path, Radiograph(pixels, (0.14, 0.14), 1000.0, 900.0, View.AP, Side.BOTH))


def whole_radiograph_seconds(path: Path, predictor: NetworkPredictor) -> tuple[float, float]:
    """Seconds to read a radiograph's file, and to predict both of its sides from what was read."""
    start = time.perf_counter()
    image = read_radiograph(path)
    middle = time.perf_counter()
    for side in (Side.LEFT, Side.RIGHT):
        predict_radiograph(image, predictor, side)
    return middle - start, time.perf_counter() - middle


def measure(folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """All figures."""
    make_pairs(folder / "data", args.pairs)
    lightning, plain = [], []
    for n in range(args.rounds):
        lightning.append(lightning_seconds(folder / "data", folder / f"run{n}", args.epochs))
        plain.append(plain_seconds(folder / "data", args.epochs))
    synthesized = folder / "synthesize"
    settings = {"trainer.max_epochs": 1, "samples_every": 0}
    run.train("synthesize", folder / "data", synthesized, start_from=folder / "run0", overrides=settings)
    predictor = load_predictor(synthesized)
    assert isinstance(predictor, NetworkPredictor)
    pixels = np.random.default_rng(2).normal(2.0, 0.2, FRAME.size_px[::-1]).astype(np.float32)
    geometry = HalfCamera(Camera(1000.0, FRAME.size_px, FRAME.pixel_mm), Side.RIGHT, View.AP, mirrored=False)
    half = Half(pixels, np.ones(pixels.shape, dtype=bool), geometry, 900.0)
    whole, bare = inference_seconds(predictor, half, args.repeats)
    write_whole_radiograph(folder / "whole.dcm")
    reading, predicting = zip(
        *(whole_radiograph_seconds(folder / "whole.dcm", predictor) for _ in range(7)), strict=True
    )
    steps = args.epochs * -(-args.pairs // 4)
    return {
        "threads": torch.get_num_threads(),
        "rounds": args.rounds,
        "steps_per_s_lightning": steps / statistics.median(lightning),
        "steps_per_s_plain": steps / statistics.median(plain),
        "training_throughput_ratio": statistics.median(b / a for a, b in zip(lightning, plain, strict=True)),
        "training_throughput_ratio_target": 0.95,
        "inference_s": statistics.median(whole),
        "inference_bare_s": statistics.median(bare),
        "inference_time_ratio": statistics.median(a / b for a, b in zip(whole, bare, strict=True)),
        "inference_time_ratio_target": 1.1,
        "whole_radiograph_read_s": statistics.median(reading),
        "whole_radiograph_both_sides_s": statistics.median(predicting),
        "whole_radiograph_target_s": 1.0,
    }


def main() -> None:
    """Measure and write OUT/training.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out/bench"))
    parser.add_argument("--pairs", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=30)
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), args)
    write_json(args.out / "training.json", found)
    for name, value in found.items():
        print(f"{name}: {value:.4g}")


if __name__ == "__main__":
    main()
