"""How far labels carried by atlas are off, and whether their quality figures say so: pairs of virtual patients.

    python benchmarks/segmentation.py --out out/bench/segmentation [--patients 4] [--spacing-mm 3] [--atlases 2]
    python benchmarks/segmentation.py --out out/bench/segmentation --real ../shared/data

Patient n is labelled by patients n + 1, n + 2, ... one by one and fused. To have bad fits too, each registration is
also stopped short: its displacement multiplied by 0 and 0.5. One file a pair; a run that was stopped goes on.
`--real` carries a real CT's labels onto another one, where nothing is known, and draws them. The page is written from
the files that are there. Simulated patients unless it says real.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from machine import machine
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from segmentation_page import write_page

from hierbmd.anatomy.atlas import CarriedLabels, labels_of, mirror_image
from hierbmd.anatomy.atlas_gate import reasons
from hierbmd.anatomy.atlas_grid import cubic_grid, sampled
from hierbmd.anatomy.atlas_options import AtlasOptions
from hierbmd.anatomy.atlas_warp import FAR_MM, Atlas, Warp, carried, warped
from hierbmd.anatomy.planes import labels_picture
from hierbmd.anatomy.shape import Mask, subgrid, surface_points
from hierbmd.data.volume import LabelMap, Volume
from hierbmd.geometry import Grid
from hierbmd.io.atomic import atomic_path, write_json
from hierbmd.io.ct import read_volume
from hierbmd.io.image import write_labels, write_png
from hierbmd.io.labels import read_labels
from hierbmd.rigid import transform_points
from hierbmd.simulation.options import PatientOptions
from hierbmd.simulation.patient import virtual_patient

SHARES = (0.0, 0.5)
NEAR_MM = 75.0
BONES = ("femur_left", "femur_right", "hip_left", "hip_right", "sacrum")


def dice(found: Mask, true: Mask) -> float:
    """Twice the overlap over the sum of both."""
    return 2.0 * np.count_nonzero(found & true) / max(np.count_nonzero(found) + np.count_nonzero(true), 1)


def errors_of(found: Mask, true: Mask, grid: Grid) -> dict[str, float]:
    """Dice and the distances between the surfaces, both ways, mm: median, mean, 95th percentile; 30 for none."""
    surfaces = [surface_points(mask, grid) for mask in (found, true)]
    if not all(len(points) for points in surfaces):
        return {"dice": 0.0, "median_mm": FAR_MM, "mean_mm": FAR_MM, "p95_mm": FAR_MM}
    ways = [cKDTree(b).query(a)[0] for a, b in (surfaces, surfaces[::-1])]
    both = np.concatenate(ways)
    p95_mm = float(np.percentile(both, 95))
    return {
        "dice": dice(found, true),
        "median_mm": float(np.median(both)),
        "mean_mm": float(both.mean()),
        "p95_mm": p95_mm,
    }


def judged(found: CarriedLabels, truth: LabelMap, warps: list[Warp], options: AtlasOptions) -> dict[str, Any]:
    """By bone the quality figures and the errors, the latter where the atlas's scan shows the place, and whole."""
    coarse = cubic_grid(truth.grid, options.spacing_mm)
    bones = {}
    for name in BONES:
        mask = found.labels.mask(name) if name in found.labels.names_present else np.zeros(truth.grid.shape, bool)
        seen = np.any([warp.seen[name] for warp in warps if name in warp.seen], axis=0)
        shown = sampled(seen, coarse, truth.grid, order=0) > 0.5
        true = truth.mask(name)
        bones[name] = {
            "quality": found.findings["bones"][name],
            "error": errors_of(mask & shown, true & shown, truth.grid),
            "error_whole": {"dice": dice(mask, true)},
        }
    refused = reasons(found.findings["bones"], found.findings["joints"])
    return {"bones": bones, "refused": refused, "joints": found.findings["joints"]}


def patient(number: int, options: argparse.Namespace) -> Any:
    """Virtual patient `number` of the benchmark's cohort."""
    return virtual_patient(number, PatientOptions(seed=options.seed, spacing_mm=options.spacing_mm))


def do_pair(target: Any, atlas: Any, path: Path, settings: AtlasOptions) -> None:
    """Register one pair, and write what came of it and the warp."""
    started = time.process_time()
    source = Atlas(atlas.volume, atlas.labels)
    warp = warped(target.volume, source, settings)
    seconds = time.process_time() - started
    found = {"1": judged(labels_of(target.volume, [warp], settings), target.labels, [warp], settings)}
    plain = AtlasOptions(spacing_mm=settings.spacing_mm, by_bone=False)
    for share in (*SHARES, 1.0):
        part = carried(target.volume, source, plain, warp.placed, share * warp.field_mm)
        name = "1, femora not registered again" if share == 1.0 else str(share)
        found[name] = judged(labels_of(target.volume, [part], plain), target.labels, [part], plain)
    with atomic_path(path.with_suffix(".npz")) as temporary:
        names = list(warp.distances)
        distances = np.stack([warp.distances[name] for name in names]).astype(np.float16)
        seen = np.packbits(np.stack([warp.seen[name] for name in names]))
        np.savez_compressed(temporary, distances=distances, seen=seen, names=np.array(names))
    write_json(path, {"cpu_s": seconds, "found": found, "placed": vars(warp.placed) | {"shift_mm": None}})


def stored_warp(path: Path) -> Warp:
    """The warp of a pair that was done before, for fusion."""
    from hierbmd.anatomy.atlas_grid import Placed

    kept = np.load(path.with_suffix(".npz"))
    names, distances = [str(name) for name in kept["names"]], kept["distances"].astype(np.float32)
    seen = np.unpackbits(kept["seen"])[: distances.size].reshape(distances.shape).astype(bool)
    by_name = {name: n for n, name in enumerate(names)}
    return Warp(
        Placed(1.0, np.zeros(3), 1.0),
        False,
        {name: distances[n] for name, n in by_name.items()},
        {name: seen[n] for name, n in by_name.items()},
        np.zeros((1, 1, 1, 3)),
    )


def pairs(options: argparse.Namespace) -> None:
    """Every pair of the cohort that is not done yet, then the fusions."""
    settings = AtlasOptions(spacing_mm=options.grid_mm)
    patients: dict[int, Any] = {}

    def made(number: int) -> Any:
        if number not in patients:
            patients[number] = patient(number, options)
        return patients[number]

    def path_of(number: int, step: int) -> Path:
        return options.out / f"pair_{number:02d}_{(number + step) % options.patients:02d}.json"

    steps = range(1, options.atlases + 1)
    wanted = [(number, step) for step in steps for number in range(options.patients)][: options.pairs]
    for number, step in wanted:
        if not path_of(number, step).is_file():
            do_pair(made(number), made((number + step) % options.patients), path_of(number, step), settings)
            print(path_of(number, step).name, flush=True)
    for number in range(options.patients) if options.atlases > 1 else ():
        fused = options.out / f"fused_{number:02d}_{options.atlases}.json"
        if not fused.is_file() and all((number, step) in wanted for step in steps):
            warps = [stored_warp(path_of(number, step)) for step in steps]
            target = made(number)
            found = judged(labels_of(target.volume, warps, settings), target.labels, warps, settings)
            write_json(fused, {"found": {f"fused, {options.atlases} atlases": found}})
            print(fused.name, flush=True)


def real(options: argparse.Namespace) -> None:
    """torso-ct's labels carried onto pelvis-ct: quality figures, pictures, with the femora's own turn and without."""
    data: Path = options.real
    atlas_ct = read_volume(data / "torso-ct" / "example_ct.nii.gz")
    labels = read_labels(data / "torso-ct" / "example_ct_totalseg_labels.nii.gz", onto=atlas_ct.grid)
    target = read_volume(data / "pelvis-ct" / "pelvis_hips_crop_hu.nii.gz")
    settings = AtlasOptions()
    atlas = Atlas(atlas_ct, labels)
    started = time.process_time()
    both = [atlas, mirror_image(atlas)]
    warps = [warped(target, one, settings) for one in both]
    found = labels_of(target, warps, settings)
    seconds = time.process_time() - started
    plain = AtlasOptions(by_bone=False)
    before = [carried(target, a, plain, w.placed, w.field_mm) for a, w in zip(both, warps, strict=True)]
    without = labels_of(target, before, plain)
    write_labels(options.out / "real.nii.gz", found.labels)
    write_labels(options.out / "real_without.nii.gz", without.labels)
    write_png(options.images / "atlas_pelvis.png", real_picture(target, found))
    write_png(options.images / "atlas_pelvis_whole_only.png", real_picture(target, without))
    content = {
        name: {**one.findings, "refused": reasons(one.findings["bones"], one.findings["joints"])}
        for name, one in (("registered again by bone", found), ("whole pelvis alone", without))
    }
    write_json(options.out / "real.json", {"cpu_s": seconds, "found": content})


def real_picture(target: Volume, found: CarriedLabels) -> NDArray[np.uint8]:
    """Three planes through each femoral head, 75 mm either way, left above right."""
    rows = []
    for side in ("left", "right"):
        at = np.array(found.findings["joints"][f"head_{side}"]["centre_world_mm"])
        index = transform_points(target.grid.index_from_world, at)
        reach = NEAR_MM / target.grid.spacing_mm
        low, high = np.maximum(index - reach, 0).astype(int), np.minimum(index + reach, target.grid.shape).astype(int)
        box = (slice(low[0], high[0]), slice(low[1], high[1]), slice(low[2], high[2]))
        grid = subgrid(target.grid, box)
        labels = LabelMap(found.labels.ids[box], grid, found.labels.scheme)
        rows.append(labels_picture(Volume(target.values[box], grid), labels, at_world_mm=at, height_px=420))
    width = min(row.shape[1] for row in rows)
    return np.vstack([row[:, :width] for row in rows])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("out/bench/segmentation"))
    parser.add_argument("--patients", type=int, default=4)
    parser.add_argument("--atlases", type=int, default=2)
    parser.add_argument("--pairs", type=int, help="do the first so many pairs only")
    parser.add_argument("--seed", type=int, default=6)
    parser.add_argument("--spacing-mm", type=float, default=3.0)
    parser.add_argument("--grid-mm", type=float, default=3.0)
    parser.add_argument("--real", type=Path)
    parser.add_argument("--page", type=Path, default=Path("docs/benchmarks/segmentation.md"))
    parser.add_argument("--images", type=Path, default=Path("docs/images"))
    parser.add_argument("--page-only", action="store_true")
    chosen = parser.parse_args()
    if not chosen.page_only:
        if chosen.real is not None:
            real(chosen)
        else:
            on = machine(1) | {"patients": chosen.patients, "spacing_mm": chosen.spacing_mm}
            on["versions"]["itk-elastix"] = importlib.metadata.version("itk-elastix")
            write_json(chosen.out / "machine.json", on)
            pairs(chosen)
    files = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(chosen.out.glob("*.json"))}
    write_page(files, chosen.page, chosen.images)
