"""A MONAI bundle on disk: a small one with random weights, run as its own network would, and what is not run of it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from hierbmd.anatomy.monai_bundle import bundle_labels
from hierbmd.anatomy.segmenter_options import SegmenterOptions
from hierbmd.cli.main import main
from hierbmd.data.volume import Volume
from hierbmd.errors import BadConfig, SegmenterFailed
from hierbmd.geometry import Grid
from hierbmd.io.image import write_volume

_NETWORK = {"_target_": "BasicUNet", "spatial_dims": 3, "in_channels": 1, "out_channels": 3, "features": [4] * 6}


def _bundle(folder: Path, **changes: object) -> Path:
    """A bundle with a small U-net of random weights, that turns the image to RAS and back."""
    import torch
    from monai.networks.nets import BasicUNet

    config = {
        "image_key": "image",
        "low": -200,
        "network_def": _NETWORK,
        "network": "$@network_def.to(@device)",
        "preprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "LoadImaged", "keys": "@image_key", "ensure_channel_first": True},
                {"_target_": "Orientationd", "keys": "@image_key", "axcodes": "RAS"},
                {
                    **{"_target_": "ScaleIntensityRanged", "keys": "@image_key", "a_min": "@low", "b_min": 0.0},
                    **{"a_max": "$800 if @low < 0 else 1000", "b_max": 1.0, "clip": True},
                },
            ],
        },
        "inferer": {"_target_": "SimpleInferer"},
        "postprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "AsDiscreted", "keys": "pred", "argmax": True},
                {"_target_": "Invertd", "keys": "pred", "transform": "@preprocessing", "orig_keys": "@image_key"},
                {"_target_": "SaveImaged", "keys": "pred", "output_dir": "/nowhere"},
            ],
        },
        "evaluator": {"_target_": "os.system", "command": "$@network"},
        **changes,
    }
    (folder / "configs").mkdir(parents=True)
    (folder / "models").mkdir()
    (folder / "configs" / "inference.json").write_text(json.dumps(config))
    channels = {"0": "background", "1": "femur_left", "2": "hip_left"}
    metadata = {"network_data_format": {"outputs": {"pred": {"channel_def": channels}}}}
    (folder / "configs" / "metadata.json").write_text(json.dumps(metadata))
    torch.manual_seed(3)
    network = BasicUNet(**{k: v for k, v in _NETWORK.items() if k != "_target_"})
    torch.save(network.state_dict(), folder / "models" / "model.pt")
    return folder


@pytest.fixture
def small():
    generator = np.random.default_rng(5)
    matrix = np.diag([2.0, 2.0, 3.0, 1.0])
    matrix[:3, 3] = [11.0, -7.0, 30.0]
    return Volume(generator.normal(100, 300, (32, 32, 32)).astype(np.float32), Grid((32, 32, 32), matrix))


def _by_hand(volume: Volume, folder: Path) -> np.ndarray:
    """The network on the image itself: LPS axes turned to RAS and back, nothing of a bundle."""
    import torch
    from monai.networks.nets import BasicUNet

    network = BasicUNet(**{k: v for k, v in _NETWORK.items() if k != "_target_"}).eval()
    network.load_state_dict(torch.load(folder / "models" / "model.pt", weights_only=True))
    image = np.clip((volume.values + 200.0) / 1000.0, 0.0, 1.0)[::-1, ::-1].copy()
    with torch.inference_mode():
        answer = network(torch.from_numpy(image)[None, None])[0].argmax(dim=0).numpy()
    return answer[::-1, ::-1]


def test_a_bundle_gives_what_its_network_gives_on_the_cts_own_grid(small, tmp_path):
    folder = _bundle(tmp_path / "bundle")
    found = bundle_labels(small, folder, SegmenterOptions(segmenter=str(folder)))
    assert found.grid == small.grid
    expected = _by_hand(small, folder)
    assert len(np.unique(expected)) > 1
    assert np.array_equal(found.ids, expected)
    assert found.scheme == {"femur_left": 1, "hip_left": 2}


def test_a_scheme_file_names_a_bundles_channels(small, tmp_path):
    folder = _bundle(tmp_path / "bundle")
    (tmp_path / "scheme.json").write_text('{"sacrum": 1, "hip_right": 2}')
    options = SegmenterOptions(segmenter=str(folder))
    assert bundle_labels(small, folder, options, scheme=tmp_path / "scheme.json").scheme == {
        "sacrum": 1,
        "hip_right": 2,
    }


def test_a_bundles_labels_pass_the_checks_of_given_ones(small, tmp_path, capsys):
    """Random weights find no bone: what they leave in soft tissue is refused, and nothing is written."""
    folder = _bundle(tmp_path / "bundle")
    write_volume(tmp_path / "ct.nii.gz", Volume(0.1 * small.values, small.grid))
    arguments = ["--segmenter", str(folder), "--out", str(tmp_path / "out")]
    assert main(["segment", str(tmp_path / "ct.nii.gz"), *arguments]) == 1
    assert "femur_left" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"inferer": {"_target_": "os.system", "command": "touch mark"}}, "calls os.system"),
        ({"inferer": {"_target_": "subprocess.run"}}, "calls subprocess.run"),
        ({"inferer": {"_target_": "monai.transforms.io.array.os.system", "command": "touch mark"}}, "calls monai"),
        ({"inferer": {"_target_": "SaveImage", "output_dir": "mark"}}, "calls SaveImage"),
        ({"image_key": "$__import__('os').system('touch mark') or 'image'"}, "evaluates"),
        ({"low": "$open('mark', 'w').write('x') and -200"}, "evaluates"),
    ],
)
def test_a_bundles_code_is_not_run_without_trust(small, tmp_path, monkeypatch, changes, reason):
    monkeypatch.chdir(tmp_path)
    folder = _bundle(tmp_path / "bundle", **changes)
    with pytest.raises(BadConfig, match=reason):
        bundle_labels(small, folder, SegmenterOptions(segmenter=str(folder)))
    assert not (tmp_path / "mark").exists()


def test_a_trusted_bundles_expressions_are_evaluated(small, tmp_path):
    folder = _bundle(tmp_path / "bundle", low="$int('-200')")
    with pytest.raises(BadConfig, match="evaluates"):
        bundle_labels(small, folder, SegmenterOptions(segmenter=str(folder)))
    trusted = bundle_labels(small, folder, SegmenterOptions(segmenter=str(folder), trust=True))
    assert np.array_equal(trusted.ids, _by_hand(small, folder))


class _Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_pickle_that_is_more_than_weights_is_refused(small, tmp_path):
    import pickle

    folder = _bundle(tmp_path / "bundle")
    (folder / "models" / "model.pt").write_bytes(pickle.dumps({"weight": _Bomb(tmp_path / "mark")}, protocol=2))
    with pytest.raises(SegmenterFailed, match="weights"):
        bundle_labels(small, folder, SegmenterOptions(segmenter=str(folder)))
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda folder: (folder / "configs" / "inference.json").unlink(), "not a MONAI bundle"),
        (lambda folder: (folder / "configs" / "inference.json").write_text("{"), "not a MONAI bundle"),
        (lambda folder: (folder / "configs" / "inference.json").write_text('{"inferer": {}}'), "has no network_def"),
        (lambda folder: (folder / "models" / "model.pt").unlink(), "no weights"),
    ],
)
def test_half_a_bundle_is_refused(small, tmp_path, spoil, reason):
    folder = _bundle(tmp_path / "bundle")
    spoil(folder)
    with pytest.raises(SegmenterFailed, match=reason):
        bundle_labels(small, folder, SegmenterOptions(segmenter=str(folder)))


def test_weights_of_another_network_are_refused(small, tmp_path):
    folder = _bundle(tmp_path / "bundle", network_def={**_NETWORK, "out_channels": 5})
    with pytest.raises(SegmenterFailed, match="could not be run"):
        bundle_labels(small, folder, SegmenterOptions(segmenter=str(folder)))
