"""The cuda backend against the slow twin: on a GPU where there is one, else in Triton's interpreter (conftest)."""

from __future__ import annotations

import dataclasses
import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from hierbmd.drr.cpu import CpuProjector
from hierbmd.drr.projector import make_projector
from hierbmd.drr.rays import index_from_camera, twist_jacobian
from hierbmd.drr.scene import Quantity, Scene
from hierbmd.errors import BadConfig, MissingExtra, NotRigid, RaysMissVolume
from hierbmd.geometry import Beam, Camera, Grid, Motion, Placement, View
from hierbmd.rigid import transform_points

triton = pytest.importorskip("triton", reason="triton comes with torch for CUDA and is not installed")
if not (torch.cuda.is_available() or triton.knobs.runtime.interpret):
    pytest.skip("no GPU, and triton was imported without TRITON_INTERPRET=1", allow_module_level=True)

BEAMS = [Beam.SLOT, *(pytest.param(beam, marks=pytest.mark.slow) for beam in (Beam.CONE, Beam.PARALLEL))]
ROOT = Path(__file__).resolve().parents[2]
MOTION = Motion(13, -22, 10, 3, 2, 1)
SLOWER = pytest.mark.slow
"""In the interpreter a projection takes half a second: more cases of what one case already tests are slow."""
BACKEND_MODULES = (
    "hierbmd.drr.cuda",
    "hierbmd.drr.triton_field",
    "hierbmd.drr.triton_kernel",
    "hierbmd.drr.triton_march",
)


def whole(scene):
    return dataclasses.replace(scene, channels=None, structures=("all",))


def pose_of(scene, view=View.AP, source_isocentre_mm=700.0, motion=MOTION):
    return Placement(view, scene.grid.centre_world_mm, source_isocentre_mm).camera_from_world(motion)


def require_twin(twin, scene, camera, pose):
    """Image and Jacobian are the twin's, to rounding."""
    pivot = scene.grid.centre_world_mm + np.array([3, 4, 5])
    image, jacobian = make_projector(scene, "cuda").image_and_jacobian(camera, pose, pivot)
    expected = twin.joseph_image(scene, camera, pose)
    assert image == pytest.approx(expected, abs=2e-6 * expected.max())
    by_difference = twin.joseph_jacobian(scene, camera, pose, pivot)
    for six in range(6):
        # Depth moves nothing in a parallel beam: zero is told from rounding by the size of the other five.
        rounding = 1e-7 * np.linalg.norm(jacobian)
        error = np.linalg.norm(jacobian[..., six] - by_difference[..., six])
        assert error <= 1e-4 * np.linalg.norm(by_difference[..., six]) + rounding


def placed():
    """Beams, one structure or three, and where the source is: outside, in the volume, or the detector in it."""
    for beam, several, place_mm in itertools.product(Beam, (False, True), (700.0, 5.0, 990.0)):
        quick = place_mm == 700.0 if not several else (beam, place_mm) == (Beam.CONE, 5.0)
        quick = quick or (beam, several) == (Beam.CONE, False)
        name = f"{beam.value}-{'three' if several else 'one'}-{place_mm:.0f}"
        yield pytest.param(beam, several, place_mm, id=name, marks=() if quick else SLOWER)


@pytest.mark.parametrize(("beam", "several", "source_isocentre_mm"), list(placed()))
def test_image_and_jacobian_are_the_twins(twin, blob_scene, small_camera, beam, several, source_isocentre_mm):
    scene = blob_scene if several else whole(blob_scene)
    camera = dataclasses.replace(small_camera, beam=beam)
    require_twin(twin, scene, camera, pose_of(scene, source_isocentre_mm=source_isocentre_mm))


@pytest.mark.parametrize("beam", BEAMS)
def test_image_and_jacobian_are_the_references(phantoms, small_camera, beam):
    grid = Grid((36, 36, 36), np.diag([1.6, 1.6, 1.6, 1.0]))
    scene = phantoms.scene_of(phantoms.gaussian_field(grid.centre_world_mm, 8.0), grid)
    camera = dataclasses.replace(small_camera, beam=beam, pixel_mm=(8.0, 8.0))
    pose, pivot = pose_of(scene), scene.grid.centre_world_mm
    image, jacobian = make_projector(scene, "cuda").image_and_jacobian(camera, pose, pivot)
    expected, gradient = make_projector(scene, "reference").image_and_jacobian(camera, pose, pivot)
    # Five voxels a standard deviation: the trapezoid rule in a cell is what is seen here, and of the slopes, which step
    # at every voxel, that they are sampled on the planes. To rounding the cuda backend is held to its twin.
    assert image == pytest.approx(expected, abs=0.005 * float(expected.max()))
    assert np.linalg.norm(jacobian - gradient) <= 0.1 * np.linalg.norm(gradient)


@pytest.mark.parametrize(
    "motion",
    [MOTION, pytest.param(Motion(5, 5, 100), marks=SLOWER), pytest.param(Motion(80, 5, 3), marks=SLOWER)],
    ids=["upright", "turned", "axial"],
)
@pytest.mark.parametrize("view", list(View))
def test_views_are_the_twins(twin, blob_scene, small_camera, view, motion):
    require_twin(twin, whole(blob_scene), small_camera, pose_of(blob_scene, view, motion=motion))


def test_neighbours_that_step_along_different_axes_are_the_twins(twin, blob_scene):
    camera = Camera(1000.0, (19, 7), (20.0, 11.0))
    pose = pose_of(blob_scene, motion=Motion(4, 62, 3))
    steps = camera.detector_points_mm() @ index_from_camera(blob_scene.grid, pose)[:3, :3].T
    assert len(np.unique(np.argmax(np.abs(steps), axis=-1)[:4, :16])) > 1
    require_twin(twin, whole(blob_scene), camera, pose)


@pytest.mark.parametrize("view", [View.AP, *(pytest.param(view, marks=SLOWER) for view in list(View)[1:])])
def test_empty_slabs_are_skipped_without_a_trace(twin, blob_scene, view):
    sparse = np.zeros((100, 70, 60), np.float32)
    for corner in ((2, 3, 4), (94, 60, 50), (40, 40, 2)):
        sparse[tuple(slice(first, first + 4) for first in corner)] = 1.0
    matrix = blob_scene.grid.world_from_index @ np.diag([0.3, 0.3, 0.3, 1.0])
    scene = dataclasses.replace(whole(blob_scene), values=sparse, grid=Grid(sparse.shape, matrix))
    camera = Camera(1000.0, (24, 24), (3.5, 3.5))
    pose = pose_of(scene, view, motion=Motion(1, -2, 10))
    expected = twin.joseph_image(scene, camera, pose)
    image = make_projector(scene, "cuda").image(camera, pose)
    assert np.count_nonzero(expected) > 0
    assert image == pytest.approx(expected, abs=3e-5 * float(expected.max()))


def test_long_rays_whose_ends_lie_in_the_middle_are_the_twins(twin, blob_scene):
    generator = np.random.default_rng(3)
    values = generator.random((5, 110, 6), np.float32)
    grid = Grid(values.shape, np.diag([3.0, 1.0, 3.0, 1.0]))
    scene = dataclasses.replace(whole(blob_scene), values=values, grid=grid)
    # Slabs before the source, around it, of full weight, around the detector and behind it.
    camera = Camera(71.0, (5, 4), (2.0, 2.0))
    require_twin(twin, scene, camera, pose_of(scene, source_isocentre_mm=30.0, motion=Motion(1, 2, 3)))


@pytest.mark.parametrize("beam", BEAMS)
def test_ends_give_the_jacobian_and_are_those_of_the_cpu(blob_scene, small_camera, beam):
    camera = dataclasses.replace(small_camera, beam=beam)
    pose, pivot = pose_of(blob_scene), blob_scene.grid.centre_world_mm + np.array([3, 4, 5])
    projector = make_projector(blob_scene, "cuda")
    image, jacobian = projector.image_and_jacobian(camera, pose, pivot)
    beside, ends = projector.image_and_ends(camera, pose)
    assert np.array_equal(image, beside)
    assert np.array_equal(image, projector.image(camera, pose))
    ends_mm = (camera.source_points_mm(), camera.detector_points_mm())
    by_ends = twist_jacobian(ends[..., 0, :], ends[..., 1, :], ends_mm, transform_points(pose, pivot))
    assert np.linalg.norm(by_ends - jacobian) <= 1e-5 * np.linalg.norm(jacobian)
    _, expected = CpuProjector(blob_scene).image_and_ends(camera, pose)
    assert np.linalg.norm(ends - expected) <= 3e-5 * np.linalg.norm(expected)


@pytest.mark.parametrize("beam", BEAMS)
def test_moments_are_the_derivatives_by_the_ends_contracted(blob_scene, small_camera, beam):
    camera = dataclasses.replace(small_camera, beam=beam)
    projector = make_projector(blob_scene, "cuda")
    poses = torch.from_numpy(np.stack([pose_of(blob_scene), pose_of(blob_scene, View.LAT)]))
    images, ends = projector.images_and_ends(camera, poses)
    weights = torch.rand(images.shape, generator=torch.Generator().manual_seed(5)).to(images)
    points = torch.from_numpy(camera.detector_points_mm()).to(images)
    points[..., 2] = 1.0
    expected = torch.einsum("bshw,bshwei,hwk->beik", weights, ends, points).double()
    moments = projector.moments(camera, poses, weights)
    assert torch.linalg.norm(moments - expected) <= 1e-6 * torch.linalg.norm(expected)
    with pytest.raises(ValueError, match="weights"):
        projector.moments(camera, poses, weights[:, :1])


def test_batch_is_its_poses_one_by_one(blob_scene, small_camera):
    projector = make_projector(blob_scene, "cuda")
    pivot = blob_scene.grid.centre_world_mm
    singles = [pose_of(blob_scene, View.AP), pose_of(blob_scene, View.LAT, motion=Motion(rz_deg=90))]
    images, jacobians = projector.images_and_jacobians(small_camera, torch.from_numpy(np.stack(singles)), pivot)
    assert images.shape == (2, 3, 6, 5)
    for pose, image, jacobian in zip(singles, images.cpu().numpy(), jacobians.cpu().numpy(), strict=True):
        alone = projector.image_and_jacobian(small_camera, pose, pivot)
        assert np.array_equal(image, alone[0])
        assert np.array_equal(jacobian, alone[1])
    assert projector.images(small_camera, torch.zeros(0, 4, 4)).shape == (0, 3, 6, 5)


@pytest.mark.parametrize("group", [pytest.param(1, marks=SLOWER), 2, pytest.param(4, marks=SLOWER)])
def test_groups_of_structures_give_the_same_images(monkeypatch, twin, blob_scene, small_camera, group):
    index = np.indices(blob_scene.values.shape)
    channels = ((index[0] // 3 + index[1] // 4 + index[2] // 5) % 6).astype(np.uint8)
    scene = dataclasses.replace(blob_scene, channels=channels, structures=("a", "b", "c", "d", "e"))
    monkeypatch.setattr("hierbmd.drr.triton_field._group", lambda _: group)
    require_twin(twin, scene, small_camera, pose_of(scene))


def test_soft_structures_are_the_twins(twin, blob_scene, small_camera):
    memberships = np.random.default_rng(4).random((2, *blob_scene.values.shape), np.float32)
    scene = dataclasses.replace(blob_scene, channels=None, memberships=memberships, structures=("a", "b"))
    require_twin(twin, scene, small_camera, pose_of(scene))


def test_structures_that_lie_apart_are_walked_apart(blob_scene):
    from hierbmd.drr.triton_field import pack

    index = np.indices(blob_scene.values.shape)
    values = np.ones_like(blob_scene.values)
    apart = (1 + (index[0] >= 10) + 2 * (index[1] >= 12)).astype(np.uint8)
    within = (1 + index.sum(axis=0) % 4).astype(np.uint8)
    groups = []
    for channels in (apart, within):
        scene = dataclasses.replace(blob_scene, values=values, channels=channels, structures=("a", "b", "c", "d"))
        groups.append(pack(scene, torch.device("cpu")).group)
    assert groups == [1, 4]


@pytest.mark.parametrize("bits", [2, 5, 8])
def test_values_beside_labels_are_rounded_by_no_more_than_the_labels_take(bits):
    from hierbmd.drr.triton_field import _with_labels

    values = 10.0 ** np.random.default_rng(1).uniform(-6, 4, 1000).astype(np.float32)
    labels = (np.arange(1000) % 2**bits).astype(np.uint8)
    words = _with_labels(values, labels, bits)
    assert np.array_equal(words & (2**bits - 1), labels)
    assert (words & -(2**bits)).view(np.float32) == pytest.approx(values, rel=2.0 ** (bits - 24), abs=0)


ORDERS = (((1, 2, 0), (1, -1, 1)), ((2, 1, 0), (-1, 1, -1)), ((0, 2, 1), (-1, -1, -1)))


@pytest.mark.parametrize(("order", "signs"), [ORDERS[0], *(pytest.param(*one, marks=SLOWER) for one in ORDERS[1:])])
def test_axis_orders_render_alike(phantoms, blob_scene, small_camera, order, signs):
    pose, pivot = pose_of(blob_scene), blob_scene.grid.centre_world_mm
    expected, gradient = make_projector(blob_scene, "cuda").image_and_jacobian(small_camera, pose, pivot)
    scale = np.abs(gradient).max(axis=(0, 1, 2))
    again = phantoms.reordered(blob_scene, order, signs)
    image, jacobian = make_projector(again, "cuda").image_and_jacobian(small_camera, pose, pivot)
    assert image == pytest.approx(expected, abs=1e-5 * float(expected.max()))
    assert np.median(np.abs(jacobian - gradient) / scale) < 1e-5


@pytest.mark.parametrize("axis", [0, pytest.param(1, marks=SLOWER), pytest.param(2, marks=SLOWER)])
def test_one_voxel_thick_volume_is_the_twins(twin, axis):
    shape, spacing = [9, 9, 9], [5.0, 5.0, 5.0]
    shape[axis], spacing[axis] = 1, 2.0
    grid = Grid(tuple(shape), np.diag([*spacing, 1.0]))
    scene = Scene(np.ones(shape, np.float32), grid, None, ("all",), Quantity.THICKNESS, "mm")
    camera = Camera(1000.0, (5, 5), (3.0, 3.0))
    for view in View:
        require_twin(twin, scene, camera, pose_of(scene, view, 900.0, Motion(0.3, 0.2, 0.1, 0.7, 0.6, 0.4)))


def test_axis_aligned_and_grazing_rays():
    scene = Scene(np.ones((8, 8, 8), np.float32), Grid((8, 8, 8), np.eye(4)), None, ("all",), Quantity.THICKNESS, "mm")
    # A principal ray exactly on voxel centres, then exactly on the last plane, then on the rim where the field is zero.
    for x_mm, expected in ((3.0, 8.0), (7.0, 8.0), (7.5, 4.0), (8.0, 0.0)):
        pose = Placement(View.AP, np.array([x_mm, 3.5, 3.0]), 900.0).camera_from_world()
        camera = Camera(1000.0, (2, 1), (1e-7, 1e-7))
        image, jacobian = make_projector(scene, "cuda").image_and_jacobian(camera, pose, np.zeros(3))
        assert image[0] == pytest.approx(np.full((1, 2), expected), abs=2e-4)
        assert np.all(np.isfinite(jacobian))


def test_rays_beside_the_volume_are_zero_with_zero_gradient(blob_scene):
    camera = Camera(1000.0, (60, 3), (10.0, 11.0))
    pose = pose_of(blob_scene, motion=Motion())
    image, jacobian = make_projector(whole(blob_scene), "cuda").image_and_jacobian(camera, pose, np.zeros(3))
    assert not image[..., :10].any()
    assert not jacobian[..., :10, :].any()
    assert image[..., 28:32].any()


@pytest.mark.parametrize("source_isocentre_mm", [-300.0, 1500.0], ids=["behind the source", "beyond the detector"])
def test_rays_that_all_miss_are_refused_and_black_in_a_batch(blob_scene, small_camera, source_isocentre_mm):
    projector, pose = make_projector(blob_scene, "cuda"), pose_of(blob_scene, View.AP, source_isocentre_mm)
    with pytest.raises(RaysMissVolume):
        projector.image(small_camera, pose)
    assert not projector.images(small_camera, torch.from_numpy(pose)[None]).any()


def test_empty_structure_in_view_is_black_not_refused(blob_scene, small_camera):
    nothing = dataclasses.replace(blob_scene, values=np.zeros_like(blob_scene.values))
    assert not make_projector(nothing, "cuda").image(small_camera, pose_of(nothing)).any()


@pytest.mark.parametrize("fault", ["reflects", "scales", "not a number", "last row"])
def test_pose_that_is_not_rigid_is_refused(blob_scene, small_camera, fault):
    projector, pose = make_projector(blob_scene, "cuda"), pose_of(blob_scene)
    bad = pose.copy()
    if fault == "last row":
        bad[3, 0] = 0.1
    else:
        bad[0] *= {"reflects": -1.0, "scales": 1.1, "not a number": np.nan}[fault]
    with pytest.raises(NotRigid):
        projector.image(small_camera, bad)
    with pytest.raises(NotRigid, match="pose 1 is not rigid"):
        projector.images(small_camera, torch.from_numpy(np.stack([pose, bad])))


def test_without_a_gpu_the_backend_is_refused(monkeypatch, blob_scene):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr(triton.knobs.runtime, "interpret", False)
    with pytest.raises(BadConfig, match="no CUDA device"):
        make_projector(blob_scene, "cuda")


def test_auto_is_the_cpu_even_beside_a_gpu(monkeypatch, blob_scene):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert make_projector(blob_scene, "auto").backend == "cpu"


def test_without_triton_the_backend_is_refused(monkeypatch, blob_scene):
    for module in BACKEND_MODULES:
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setitem(sys.modules, "triton", None)
    with pytest.raises(MissingExtra, match="triton cannot be imported"):
        make_projector(blob_scene, "cuda")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="triton's compiler runs on Linux")
def test_kernels_compile_for_a_gpu_and_spill_nothing_in_their_loops(tmp_path):
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "TRITON_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, str(ROOT / "benchmarks" / "gpu_counts.py"), "--ours", "--few"]
    told = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr[-2000:]
    rows = [line.split(" | ") for line in told.stdout.splitlines()[1:]]
    assert len(rows) == 4
    for name, registers, spilled, instructions, *_ in rows:
        assert int(registers) <= 64, name
        assert float(spilled) == 0, name
        assert 20 < float(instructions) < 80, name
