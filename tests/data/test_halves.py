"""Half images: where a point lands, which way they look, and what resampling does to them."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest

from hierbmd.anatomy.options import HipRegion, SpineRegion
from hierbmd.data.halves import HalfFrame, half_camera, half_radiograph, sides_shown
from hierbmd.data.radiograph import Radiograph
from hierbmd.data.site import HIP, LUMBAR_SPINE, site_of
from hierbmd.errors import GeometryMissing, SideConflict, ViewConflict
from hierbmd.geometry import Placement, Side, View
from hierbmd.rigid import transform_points

FRAME = HalfFrame(size_px=(40, 80), pixel_mm=(3.0, 3.0))


def _radiograph(size_px=(240, 220), pixel_mm=(1.0, 1.2), view=View.AP, side=Side.BOTH, pixels=None):
    width, height = size_px
    pixels = np.zeros((height, width), np.float32) if pixels is None else pixels
    return Radiograph(pixels, pixel_mm, 1000.0, 800.0, view, side)


def _blob_image(radiograph, centre_px, sigma_mm=6.0):
    """A Gaussian spot, which has an exact centre of gravity, on the radiograph's own lattice."""
    width, height = radiograph.size_px
    du, dv = radiograph.pixel_mm
    u = (np.arange(width) - centre_px[0]) * du
    v = (np.arange(height) - centre_px[1]) * dv
    return np.exp(-(u[None] ** 2 + v[:, None] ** 2) / (2 * sigma_mm**2)).astype(np.float32)


def _centre_of_gravity(image):
    v, u = np.indices(image.shape)
    return np.array([(u * image).sum(), (v * image).sum()]) / image.sum()


@pytest.mark.parametrize("view", [View.AP, View.PA])
@pytest.mark.parametrize("side", [Side.LEFT, Side.RIGHT])
@pytest.mark.parametrize("shown", ["both", "one"])
def test_a_projected_point_and_its_picture_land_at_the_same_place(view, side, shown):
    radiograph = _radiograph(view=view, side=Side.BOTH if shown == "both" else side)
    lateral = 55.0 if side == Side.LEFT else -55.0
    point = np.array([lateral if shown == "both" else lateral / 10, 11.0, 23.0])
    pose = Placement(view, np.zeros(3), 800.0).camera_from_world()
    spot_px = radiograph.camera.pixels_from_camera(transform_points(pose, point))
    radiograph = replace(radiograph, pixels=_blob_image(radiograph, spot_px))

    half = half_radiograph(radiograph, side, FRAME)

    expected = half.geometry.canonical_pixels(transform_points(pose, point))
    assert _centre_of_gravity(half.pixels - half.pixels.min()) == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize("view", [View.AP, View.PA])
@pytest.mark.parametrize("side", [Side.LEFT, Side.RIGHT])
def test_every_half_has_lateral_on_the_left_and_superior_on_top(view, side):
    geometry = half_camera(_radiograph(view=view), side, FRAME)
    sign = 1.0 if side == Side.LEFT else -1.0
    pose = Placement(view, np.zeros(3), 800.0).camera_from_world()
    medial, lateral, superior = (
        geometry.canonical_pixels(transform_points(pose, np.array(p)))
        for p in ([sign * 20.0, 0, 0], [sign * 60.0, 0, 0], [sign * 20.0, 0, 40.0])
    )
    assert lateral[0] < medial[0]
    assert superior[1] < medial[1]


def test_the_medial_edge_lies_on_the_midline_and_may_be_moved():
    radiograph = _radiograph()
    for midline_px in (None, 100.0):
        at_px = 119.5 if midline_px is None else midline_px
        midline_mm = (at_px - radiograph.camera.centre_px[0]) * radiograph.pixel_mm[0]
        for side in (Side.LEFT, Side.RIGHT):
            geometry = half_camera(radiograph, side, FRAME, midline_px=midline_px)
            at_detector = np.array([midline_mm, 0.0, 1000.0])
            assert geometry.canonical_pixels(at_detector)[0] == pytest.approx(FRAME.size_px[0] - 0.5)


def test_mirroring_is_undone():
    half = half_radiograph(
        _radiograph(pixels=np.random.default_rng(0).random((220, 240), np.float32)), Side.LEFT, FRAME
    )
    assert half.geometry.mirrored
    seen = half.geometry.upright(half.pixels)
    assert not np.array_equal(seen, half.pixels)
    assert np.array_equal(half.geometry.canonical(seen), half.pixels)


def test_resampling_keeps_the_mean_and_does_not_alias():
    """A one-pixel checkerboard at a third of its resolution is flat grey; picking every third pixel would not be."""
    v, u = np.indices((240, 240))
    checkers = ((u + v) % 2).astype(np.float32)
    half = half_radiograph(
        _radiograph((240, 240), (1.0, 1.0), pixels=checkers), Side.RIGHT, HalfFrame((40, 80), (3.0, 3.0))
    )
    assert half.covered.all()
    assert half.pixels == pytest.approx(np.full_like(half.pixels, 0.5), abs=0.06)
    smooth = half_radiograph(
        _radiograph((240, 240), (1.0, 1.0), pixels=checkers), Side.RIGHT, HalfFrame((60, 120), (2.0, 2.0))
    )
    assert smooth.pixels == pytest.approx(np.full_like(smooth.pixels, 0.5), abs=1e-6)


def test_a_ramp_stays_a_ramp_at_any_scale():
    """Means over symmetric footprints of a linear image are its values at pixel centres, coarser and finer alike."""
    radiograph = _radiograph((120, 120), (2.0, 2.0), pixels=np.tile(np.arange(120, dtype=np.float32), (120, 1)))
    for size, pixel_mm in (((20, 40), 6.0), ((60, 90), 1.1)):
        half = half_radiograph(radiograph, Side.RIGHT, HalfFrame(size, (pixel_mm, pixel_mm)))
        x_mm = half.geometry.camera.detector_points_mm()[0, :, 0]
        expected = x_mm / 2.0 + 59.5
        inside = half.covered[size[1] // 2] & (expected > 4) & (expected < 115)
        assert inside.sum() > 8
        assert half.pixels[size[1] // 2, inside] == pytest.approx(expected[inside], abs=1e-4)


def test_what_lies_outside_the_radiograph_is_marked_and_holds_air():
    pixels = np.full((60, 60), 5.0, np.float32)
    pixels[:3] = 1.0
    half = half_radiograph(_radiograph((60, 60), (1.0, 1.0), pixels=pixels), Side.RIGHT, FRAME)
    assert half.covered.sum() == pytest.approx(10 * 20, abs=30)
    assert half.covered[:, -1].any(), "the midline is inside the radiograph"
    assert not half.covered[:, 0].any()
    assert np.all(half.pixels[~half.covered] == 1.0)


def test_a_side_is_never_guessed():
    for side in (None, Side.NONE):
        with pytest.raises(SideConflict, match="does not say which side"):
            sides_shown(_radiograph(side=side))
    with pytest.raises(SideConflict, match="shows side left, not right"):
        half_camera(_radiograph(side=Side.LEFT), Side.RIGHT, FRAME)


def test_only_frontal_views_have_halves():
    with pytest.raises(ViewConflict, match="not LAT"):
        half_camera(_radiograph(view=View.LAT), Side.LEFT, FRAME)
    with pytest.raises(ViewConflict, match="does not say its view"):
        half_camera(_radiograph(view=None), Side.LEFT, FRAME)


def test_without_spacing_there_is_no_half():
    with pytest.raises(GeometryMissing, match="--pixel-mm"):
        half_camera(replace(_radiograph(), pixel_mm=None), Side.LEFT, FRAME)


@pytest.mark.parametrize("view", [View.AP, View.PA])
def test_a_lumbar_radiograph_is_taken_whole_and_looks_as_in_ap(view):
    radiograph = _radiograph(view=view, side=Side.NONE)
    pose = Placement(view, np.zeros(3), 800.0).camera_from_world()
    left, up = np.array([12.0, 0.0, 0.0]), np.array([0.0, 0.0, 30.0])
    spot_px = radiograph.camera.pixels_from_camera(transform_points(pose, left + up))
    radiograph = replace(radiograph, pixels=_blob_image(radiograph, spot_px))
    half = half_radiograph(radiograph, Side.NONE, FRAME)
    expected = half.geometry.canonical_pixels(transform_points(pose, left + up))
    assert _centre_of_gravity(half.pixels - half.pixels.min()) == pytest.approx(expected, abs=0.02)
    assert (expected - [19.5, 39.5])[0] > 0 > (expected - [19.5, 39.5])[1]
    assert half.geometry.mirrored == (view == View.PA)


def test_a_site_without_sides_takes_no_radiograph_of_a_side():
    assert sides_shown(_radiograph(side=Side.NONE), LUMBAR_SPINE) == (Side.NONE,)
    assert sides_shown(_radiograph(side=None), LUMBAR_SPINE) == (Side.NONE,)
    for side in (Side.LEFT, Side.RIGHT, Side.BOTH):
        with pytest.raises(SideConflict, match="lumbar spine has none"):
            half_camera(_radiograph(side=side), Side.NONE, FRAME)
    with pytest.raises(SideConflict, match="does not say which side"):
        half_camera(_radiograph(side=Side.NONE), Side.LEFT, FRAME)


def test_every_region_that_can_be_asked_for_is_of_one_site():
    assert get_args(HipRegion) == HIP.regions
    assert get_args(SpineRegion) == LUMBAR_SPINE.regions
    assert all(site_of(region) == site for site in (HIP, LUMBAR_SPINE) for region in site.regions)


@pytest.mark.parametrize("side", [Side.LEFT, Side.RIGHT])
@pytest.mark.parametrize("size_px", [(240, 220), (90, 150), (30, 20)])
def test_a_pixel_is_the_mean_over_its_footprint(side, size_px):
    """Against the footprints one after the other; some frames go past the radiograph's edge."""
    pixels = np.random.default_rng(3).normal(5.0, 2.0, size_px[::-1]).astype(np.float32)
    radiograph = _radiograph(size_px, pixels=pixels)
    half = half_radiograph(radiograph, side, HalfFrame((9, 12), (7.0, 13.0)))
    seen = half.geometry.upright(half.pixels)
    covered = half.geometry.upright(half.covered)
    here, there = half.geometry.camera, radiograph.camera
    air = np.percentile(pixels, 1.0)
    for v, u in np.ndindex(seen.shape):
        shares = []
        for axis, place in ((0, u), (1, v)):
            centre = (place - here.centre_px[axis]) * here.pixel_mm[axis] / there.pixel_mm[axis] + there.centre_px[axis]
            reach = max(here.pixel_mm[axis] / there.pixel_mm[axis], 1.0) / 2
            index = np.arange(size_px[axis])
            overlap = np.minimum(centre + reach, index + 0.5) - np.maximum(centre - reach, index - 0.5)
            shares.append(np.clip(overlap, 0, None) / (2 * reach))
        weight = np.outer(shares[1], shares[0])
        assert covered[v, u] == (weight.sum() >= 0.5)
        expected = (weight * pixels).sum() / weight.sum() if covered[v, u] else air
        assert seen[v, u] == pytest.approx(expected, rel=1e-5)
