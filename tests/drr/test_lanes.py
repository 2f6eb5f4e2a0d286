"""Sixteen rays at once, in each way that they read the volume, against the twin."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from hierbmd.drr import cpu
from hierbmd.drr.cpu import CpuProjector
from hierbmd.drr.kernel_aim import aim
from hierbmd.drr.kernel_types import BEYOND, BLOCK, CELL, GROUP, MIXED, PAD
from hierbmd.drr.lane_code import PAIRED, SCATTERED, WINDOWED
from hierbmd.drr.lanes import TILE, _collect, _plan, has_windows
from hierbmd.drr.rays import index_from_camera
from hierbmd.drr.scene import Quantity, Scene
from hierbmd.geometry import Camera, Grid, Motion, Placement, View
from hierbmd.kernels import compiled

CAMERA = Camera(1000.0, (37, 21), (2.4, 2.9), (18.7, 10.9))
POSES = {
    "windowed": Motion(1, 2, -1, 3, 2, 1),
    "turned about the beam": Motion(8, 6, 35, 1, 2, 3),
    "along the patient": Motion(80, 5, 3),
}


@pytest.fixture(scope="module", params=[1, 4, 30])
def scene(request):
    """Noise of 1 to 3 voxels' extent, in one structure, in four quarters with gaps, or in 30 cells."""
    rng = np.random.default_rng(2)
    shape = (33, 40, 36)
    values = gaussian_filter(rng.normal(size=shape), 1.0).astype(np.float32) ** 2
    values[:, 15:19] = 0
    x, y, z = np.indices(shape)
    channels = {
        1: None,
        4: (1 + (x > 16) + 2 * (z > 20)) * ((x + y + z) % 11 > 1),
        30: 1 + x // 11 + 3 * (y // 8) + 15 * (z // 18),
    }[request.param]
    grid = Grid(shape, np.array([[1.9, 0.1, 0, 4], [0, 2.1, 0.1, 5], [-0.1, 0, 2.0, 6], [0, 0, 0, 1.0]]))
    names = tuple(f"s{n}" for n in range(request.param))
    channels = None if channels is None else channels.astype(np.uint8)
    return Scene(values, grid, channels, names, Quantity.ATTENUATION, "1")


@compiled
def _windows_here():
    return has_windows()


def pose_of(scene, name):
    return Placement(View.AP, scene.grid.centre_world_mm, 700.0).camera_from_world(POSES[name])


@pytest.mark.parametrize("name", POSES)
def test_image_and_jacobian_are_the_twins(twin, scene, name):
    pose, pivot = pose_of(scene, name), scene.grid.centre_world_mm
    image, jacobian = CpuProjector(scene).image_and_jacobian(CAMERA, pose, pivot)
    expected = twin.joseph_image(scene, CAMERA, pose)
    assert image == pytest.approx(expected, abs=3e-6 * expected.max())
    assert np.array_equal(CpuProjector(scene).image(CAMERA, pose), image)
    if len(scene.structures) < 10:
        by_difference = twin.joseph_jacobian(scene, CAMERA, pose, pivot)
        assert np.linalg.norm(jacobian - by_difference) <= 1e-4 * np.linalg.norm(by_difference)


def test_structures_add_up_to_the_whole(scene):
    pose = pose_of(scene, "windowed")
    values = scene.values if scene.channels is None else np.where(scene.channels > 0, scene.values, np.float32(0))
    whole = Scene(values, scene.grid, None, ("all",), scene.quantity, scene.unit)
    expected = CpuProjector(whole).image(CAMERA, pose)[0]
    total = CpuProjector(scene).image(CAMERA, pose).sum(axis=0)
    assert total == pytest.approx(expected, abs=3e-6 * float(expected.max()))


@pytest.mark.parametrize(
    ("name", "way"), [("windowed", WINDOWED), ("turned about the beam", PAIRED), ("along the patient", SCATTERED)]
)
def test_poses_above_take_each_way(scene, name, way):
    if way == WINDOWED and not _windows_here():
        pytest.skip("this processor has no AVX-512")
    ways = Counter()
    for packed in CpuProjector(scene)._packed:
        matrix = packed.from_index @ index_from_camera(scene.grid, pose_of(scene, name))
        view = cpu._view(matrix, CAMERA, None)
        rays = cpu._rays(16, 37 if not view.by_columns else 21, 1)
        aim(packed.field, view, 2, 16, rays)
        lines, spans = np.empty((16, 4, TILE), np.float32), np.empty((16, 4), np.int64)
        plan, only = np.zeros((2, 16, packed.field.filled.shape[1]), np.uint8)
        for c in range(3):
            if _collect(rays, c, 0, lines, spans)[1] >= 0:
                _plan(packed.field, c, lines, spans, plan, only)
                ways.update(plan[plan > 0].tolist())
    assert ways.most_common(1)[0][0] == way


def test_other_processors_give_the_same(scene, tmp_path):
    """A process that compiles for a processor with nothing special has the same images."""
    np.savez(tmp_path / "scene.npz", values=scene.values, channels=scene.channels if scene.channels is not None else 0)
    code = f"""
import numpy as np
from hierbmd.drr.cpu import CpuProjector
from hierbmd.drr.kernel_types import BEYOND, BLOCK, CELL, GROUP, MIXED, PAD
from hierbmd.drr.lanes import has_windows
from hierbmd.drr.scene import Quantity, Scene
from hierbmd.geometry import Camera, Grid
from hierbmd.kernels import compiled
kept = np.load("scene.npz")
channels = kept["channels"] if kept["channels"].ndim else None
names = tuple(f"s{{n}}" for n in range({len(scene.structures)}))
grid = Grid(kept["values"].shape, np.array({scene.grid.world_from_index.tolist()}))
scene = Scene(kept["values"], grid, channels, names, Quantity.ATTENUATION, "1")
camera = Camera{(CAMERA.sdd_mm, CAMERA.size_px, CAMERA.pixel_mm, CAMERA.principal_px)}
pose = np.array({pose_of(scene, "windowed").tolist()})
image, jacobian = CpuProjector(scene).image_and_jacobian(camera, pose, np.zeros(3))
assert not compiled(lambda: has_windows())()
np.savez("result.npz", image=image, jacobian=jacobian)
"""
    env = os.environ | {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""}
    subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=tmp_path, env=env, check=True)
    result = np.load(tmp_path / "result.npz")
    image, jacobian = CpuProjector(scene).image_and_jacobian(CAMERA, pose_of(scene, "windowed"), np.zeros(3))
    assert result["image"] == pytest.approx(image, abs=3e-6 * float(image.max()))
    assert np.linalg.norm(result["jacobian"] - jacobian) <= 1e-5 * np.linalg.norm(jacobian)


def test_stretches_of_one_label_are_read_without_labels(scene):
    """Where the names say that there is one label, the sums are to the bit those with every label looked at."""
    projector, pivot = CpuProjector(scene), scene.grid.centre_world_mm
    for packed in projector._packed:
        names = packed.field.names
        _assert_names(packed.field)
        alike = (names > 0) & (names < MIXED)
        assert names.size == 0 or 0 < np.count_nonzero(alike) < np.count_nonzero(names)
    mixed = tuple(
        one._replace(field=one.field._replace(names=np.where(one.field.names > 0, np.uint8(MIXED), np.uint8(0))))
        for one in projector._packed
    )
    everywhere = CpuProjector(scene)
    object.__setattr__(everywhere, "_packed", mixed)
    for name in POSES:
        found, expected = (p.image_and_jacobian(CAMERA, pose_of(scene, name), pivot) for p in (projector, everywhere))
        assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))


def _assert_names(field):
    """Each cell's name is what its voxels say, one by one."""
    if field.names.size == 0:
        return
    labels = field.labels[:-BEYOND].reshape(field.shape + 2 * PAD)[PAD:-PAD, PAD:-PAD]
    for c, x, y in ((0, 1, 2), (1, 0, 2), (2, 0, 1)):
        padded = np.pad(labels[..., PAD:-PAD], [(0, 0) if axis == c else (PAD, PAD) for axis in range(3)])
        turned = np.transpose(padded, (c, x, y))
        for block, group, cell in np.ndindex(field.names.shape[1:]):
            part = turned[block * BLOCK :, group * GROUP :, cell * CELL :][:BLOCK, :GROUP, :CELL]
            there = np.unique(part[part > 0])
            expected = 0 if there.size == 0 else there[0] if there.size == 1 else MIXED
            assert field.names[c, block, group, cell] == expected
