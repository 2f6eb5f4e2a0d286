"""Sampling a patient onto a scanner's lattice, and the share of a pixel that a shape covers."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from hierbmd.data.volume import Volume
from hierbmd.errors import NotOrthogonal
from hierbmd.geometry import Grid
from hierbmd.rigid import transform_points
from hierbmd.simulation.ct_sampling import Lattice, Sampler, cell_weights, profile, upright
from hierbmd.simulation.shares import along_normal, slab_share


def _volume(shape=(12, 10, 14), spacing=(2.0, 2.0, 1.0)):
    matrix = np.diag([*spacing, 1.0])
    matrix[:3, 3] = -7.0, 5.0, 30.0
    return Volume(np.random.default_rng(1).normal(0, 100, shape).astype(np.float32), Grid(shape, matrix))


def _lattice(volume, pixel, z, **options):
    origin, n = volume.grid.world_from_index[:3, 3], volume.grid.shape
    x, y = (origin[a] + pixel * np.arange(int((n[a] - 1) * 2 / pixel) + 1) for a in range(2))
    return Lattice(x, y, np.asarray(z), pixel, **options)


def test_the_volumes_own_lattice_gives_the_volume():
    volume = _volume()
    sampler = Sampler(volume, _lattice(volume, 2.0, 30.0 + np.arange(14), thickness_mm=1.0), outside=-1000.0)
    for k in (0, 6, 13):
        assert sampler.slice(k) == pytest.approx(volume.values[:, :, k], abs=1e-3)


def test_between_voxels_it_is_linear():
    volume = _volume()
    x, y, z = np.meshgrid(*(np.arange(n) for n in volume.grid.shape), indexing="ij")
    places = transform_points(volume.grid.world_from_index, np.stack([x, y, z], axis=-1))
    ramp = Volume((places @ [3.0, -2.0, 5.0]).astype(np.float32), volume.grid)
    lattice = _lattice(volume, 0.5, [33.3, 38.8])
    for k, z_mm in enumerate(lattice.z_mm):
        expected = 3.0 * lattice.x_mm[:, None] - 2.0 * lattice.y_mm[None, :] + 5.0 * z_mm
        assert Sampler(ramp, lattice, outside=-1000.0).slice(k) == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("kind", ["rectangle", "bell"])
def test_a_thin_plate_shows_the_slice_profile(kind):
    """A bright voxel layer of 0.1 mm, seen by slices 0.1 mm apart: its full width at half maximum is the thickness."""
    values = np.zeros((3, 3, 201), dtype=np.float32)
    values[:, :, 100] = 1000.0
    grid = Grid(values.shape, np.diag([1.0, 1.0, 0.1, 1.0]))
    lattice = Lattice(np.arange(3.0), np.arange(3.0), np.arange(5.0, 15.0, 0.1), 1.0, thickness_mm=3.0, profile=kind)
    sampler = Sampler(Volume(values, grid), lattice, outside=0.0)
    seen = np.array([sampler.slice(k)[1, 1] for k in range(len(lattice.z_mm))])
    smooth = np.convolve(seen, np.ones(5) / 5, mode="same")
    width = 0.1 * np.count_nonzero(smooth > 0.5 * np.median(np.sort(smooth)[-9:]))
    assert width == pytest.approx(3.0, abs=0.35)
    assert seen.sum() == pytest.approx(1000.0, rel=0.02)


def test_beside_the_volume_is_air_and_above_it_the_patient_goes_on():
    volume = _volume()
    lattice = Lattice(np.array([-40.0, -7.0]), np.array([5.0, 7.0]), np.array([20.0, 30.0]), 2.0)
    sampler = Sampler(volume, lattice, outside=-1000.0)
    assert sampler.slice(0)[0] == pytest.approx([-1000.0, -1000.0])
    assert sampler.slice(0)[1] == pytest.approx(volume.values[0, :2, 0], abs=1e-3)


@pytest.mark.parametrize(
    ("order", "signs"), [((0, 1, 2), (1, 1, 1)), ((2, 0, 1), (1, -1, 1)), ((1, 0, 2), (-1, 1, -1))]
)
def test_upright_moves_no_voxel(order, signs):
    source = _volume()
    matrix = source.grid.world_from_index.copy()
    matrix[:3, :3] = matrix[:3, list(order)] * signs
    turned = Volume(source.values, Grid(source.grid.shape, matrix))
    found = upright(turned)
    assert found.grid.axis_codes == "LPS"
    at = transform_points(turned.grid.world_from_index, np.array([3.0, 4.0, 5.0]))
    index = np.rint(transform_points(found.grid.index_from_world, at)).astype(int)
    assert found.values[tuple(index)] == turned.values[3, 4, 5]


def test_an_oblique_volume_is_refused():
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("z", 5, degrees=True).as_matrix()
    with pytest.raises(NotOrthogonal):
        upright(Volume(np.zeros((3, 3, 3), np.float32), Grid((3, 3, 3), matrix)))


def test_slices_apart_share_no_noise_and_overlapping_ones_do():
    apart = Lattice(np.arange(2.0), np.arange(2.0), np.arange(0.0, 30.0, 3.0), 1.0, thickness_mm=3.0)
    overlapping = Lattice(np.arange(2.0), np.arange(2.0), np.arange(0.0, 15.0, 1.5), 1.0, thickness_mm=3.0)
    assert cell_weights(apart) == pytest.approx([1.0])
    assert len(cell_weights(overlapping)) == 3
    assert np.sum(cell_weights(overlapping) ** 2) == pytest.approx(1.0)


@pytest.mark.parametrize("kind", ["rectangle", "bell"])
def test_a_profile_adds_up_to_one(kind):
    offsets, weights = profile(kind, 4.0)
    assert weights.sum() == pytest.approx(1.0)
    assert offsets @ weights == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("angle_deg", [0.0, 20.0, 45.0, 71.0])
def test_the_share_of_a_half_plane_is_the_counted_one(angle_deg):
    pixel = 0.9
    normal = np.array([np.cos(np.radians(angle_deg)), np.sin(np.radians(angle_deg))])
    inner = pixel * ((np.arange(400) + 0.5) / 400 - 0.5)
    u, v = np.meshgrid(inner, inner, indexing="ij")
    for depth in (-0.7, -0.4, -0.1, 0.0, 0.25, 0.5, 0.8):
        counted = np.mean(depth + u * normal[0] + v * normal[1] > 0)
        assert along_normal(np.array(depth), pixel * np.abs(normal)) == pytest.approx(counted, abs=3e-3)


def test_the_share_of_a_thin_slab_is_its_width_over_the_pixels():
    assert slab_share(np.array(0.1), 0.2, np.array([1.0, 0.0])) == pytest.approx(0.4)
