"""Bones by a MONAI bundle on disk: its network, transforms and inferer, and nothing else of it is run.

A bundle's configuration is code: `_target_` names a callable and a string that begins with $ is evaluated. Only MONAI's
own networks, transforms and inferers are built, and only expressions of plain values are evaluated, unless the caller
trusts the bundle.
"""

from __future__ import annotations

import ast
import inspect
import logging
import pickle
import pydoc
import re
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from hierbmd.anatomy.segmenter_options import SegmenterOptions
from hierbmd.data.volume import LabelMap, Volume
from hierbmd.errors import BadConfig, SegmenterFailed
from hierbmd.io.atomic import read_json, write_json
from hierbmd.io.image import write_volume
from hierbmd.io.labels import read_labels

_CONFIGS = ("inference.json", "inference.yaml", "inference.yml")
_WEIGHTS = ("model.safetensors", "model.pt", "model.pth")
_PARTS = ("network_def", "preprocessing", "inferer", "postprocessing")
_ALLOWED = ("monai.networks.nets", "monai.networks.layers", "monai.transforms", "monai.inferers", "torch.nn")
_REFERENCE = re.compile(r"@([A-Za-z_][\w]*(?:::[\w]+)*)")
_PLAIN = (
    *(ast.Expression, ast.Constant, ast.List, ast.Tuple, ast.Load, ast.Name, ast.IfExp, ast.Compare, ast.cmpop),
    *(ast.BoolOp, ast.boolop, ast.BinOp, ast.operator, ast.UnaryOp, ast.unaryop),
)


def bundle_labels(
    volume: Volume, folder: Path, options: SegmenterOptions, *, scheme: str | Path | None = None
) -> LabelMap:
    """The labels of a CT in HU by the MONAI bundle in a folder, on the CT's grid.

    The bundle has configs/inference.json (or .yaml) with network_def, preprocessing, inferer and, if it likes,
    postprocessing, and models/model.pt (or .safetensors). Names come from `scheme`, else from the channel_def of its
    metadata.json, else by TotalSegmentator v2's ids. Errors: BadConfig names a `_target_` or an expression that is not
    evaluated without trust; SegmenterFailed when a part is missing or fails; the refusals of `read_labels`.
    """
    import torch

    parser = _parsed(folder, options)
    device = torch.device("cuda" if options.device == "gpu" else "cpu")
    key = parser.config.get("image_key", "image")
    with tempfile.TemporaryDirectory(prefix="hierbmd-") as temporary, _without_notes():
        ct = Path(temporary) / "ct.nii.gz"
        write_volume(ct, volume)
        try:
            network = _network(parser, folder, device)
            data = parser.get_parsed_content("preprocessing")({key: str(ct)})
            inferer = parser.get_parsed_content("inferer")
            with torch.inference_mode():
                data["pred"] = inferer(data[key][None].to(device), network)[0].cpu()
            if "postprocessing" in parser.config:
                data = parser.get_parsed_content("postprocessing")(data)
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
            why = " ".join(str(error.__cause__ or error).split())[-200:]
            raise SegmenterFailed(f"the bundle could not be run: {why}", where=folder) from None
        labels = Path(temporary) / "labels.nii.gz"
        _write_ids(labels, data["pred"], data[key])
        return read_labels(labels, scheme=_scheme(folder, Path(temporary), scheme), onto=volume.grid)


@contextmanager
def _without_notes() -> Iterator[None]:
    """Without two notes of MONAI that say nothing to who runs a bundle on NIfTI.

    Its loaders make every reader, and one lacks a decoder of DICOM; a default of `Orientationd` has changed.
    """
    log = logging.getLogger("monai.data.nvimgcodec_pydicom_plugin")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "NvImgCodecPydicomReader", UserWarning)
            warnings.filterwarnings("ignore", r"monai\.transforms\.spatial.*Orientation.*labels", FutureWarning)
            yield
    finally:
        log.setLevel(level)


def _parsed(folder: Path, options: SegmenterOptions) -> Any:
    """The bundle's configuration, checked, without what would write files."""
    from monai.bundle import ConfigParser

    found = [folder / "configs" / name for name in _CONFIGS if (folder / "configs" / name).is_file()]
    if not found:
        raise SegmenterFailed("not a MONAI bundle", where=folder, mend=f"configs/{_CONFIGS[0]} is not there")
    # MONAI would search every module of its own for a short name; `_named_in_full` has looked in those allowed.
    parser: Any = ConfigParser() if options.trust else ConfigParser(excludes=["monai."])
    try:
        parser.read_config(found[0])
    except (ValueError, OSError) as error:
        raise SegmenterFailed(f"not a MONAI bundle: {error}", where=found[0]) from None
    missing = [name for name in _PARTS[:3] if name not in parser.config]
    if missing:
        raise SegmenterFailed(f"the bundle has no {' and no '.join(missing)}", where=found[0])
    parser["bundle_root"] = str(folder)
    parser["device"] = "cuda" if options.device == "gpu" else "cpu"
    transforms = parser.config.get("postprocessing", {}).get("transforms", [])
    if transforms:
        parser["postprocessing"]["transforms"] = [t for t in transforms if "SaveImage" not in str(t.get("_target_"))]
    parser.parse(True)
    if options.trust:
        parser.get_parsed_content("imports", default=None)
    else:
        _require_plain(parser.config, found[0])
        parser.set({**parser.config, **{name: _named_in_full(parser.config[name]) for name in parser.config}})
    return parser


def _require_plain(config: dict[str, Any], where: Path) -> None:
    """Raise BadConfig for a callable outside the allow-list, or an expression of more than plain values."""
    todo, seen = [name for name in _PARTS if name in config], set()
    while todo:
        name = todo.pop()
        if name in seen or name not in config:
            continue
        seen.add(name)
        for target, text in _leaves(config[name]):
            if target and _full_name(text) is None:
                raise BadConfig(f"the bundle calls {text}", where=where, mend="--trust-bundle if you trust its authors")
            if not target and text.startswith("$") and not _plain(text[1:]):
                raise BadConfig(
                    f"the bundle evaluates {text[:80]}", where=where, mend="--trust-bundle if you trust its authors"
                )
            todo += [reference.split("::")[0] for reference in _REFERENCE.findall(text)]


def _named_in_full(node: Any) -> Any:
    """A configuration whose short names of callables have their modules before them."""
    if isinstance(node, dict):
        named = {name: _named_in_full(value) for name, value in node.items()}
        if isinstance(named.get("_target_"), str):
            named["_target_"] = _full_name(named["_target_"]) or named["_target_"]
        return named
    return [_named_in_full(value) for value in node] if isinstance(node, list) else node


def _leaves(node: Any, key: str = "") -> Iterator[tuple[bool, str]]:
    """Every string in a configuration, and whether it names what is called."""
    if isinstance(node, dict):
        for name, value in node.items():
            yield from _leaves(value, str(name))
    elif isinstance(node, list):
        for value in node:
            yield from _leaves(value)
    elif isinstance(node, str):
        yield key == "_target_", node


def _full_name(target: str) -> str | None:
    """The full name of a class of the modules allowed, by its full or short name; None for anything else."""
    for module in _ALLOWED:
        name = target if "." in target else f"{module}.{target}"
        found = pydoc.locate(name) if name.startswith(f"{module}.") else None
        # What a module has imported (os.system, say) can be reached by its name too: where it is defined decides.
        if (
            inspect.isclass(found)
            and found.__module__.startswith(module)
            and not found.__name__.startswith("SaveImage")
        ):
            return name
    return None


def _plain(expression: str) -> bool:
    try:
        tree = ast.parse(_REFERENCE.sub("_ref", expression).strip(), mode="eval")
    except SyntaxError:
        return False
    nodes = list(ast.walk(tree))
    return all(isinstance(node, _PLAIN) and (not isinstance(node, ast.Name) or node.id == "_ref") for node in nodes)


def _network(parser: Any, folder: Path, device: Any) -> Any:
    import torch
    from safetensors.torch import load_file

    found = [folder / "models" / name for name in _WEIGHTS if (folder / "models" / name).is_file()]
    if not found:
        raise SegmenterFailed("the bundle has no weights", where=folder / "models", mend=" or ".join(_WEIGHTS))
    network = parser.get_parsed_content("network_def").to(device).eval()
    try:
        state = load_file(found[0]) if found[0].suffix == ".safetensors" else torch.load(found[0], weights_only=True)
    except (RuntimeError, EOFError, OSError, ValueError, pickle.UnpicklingError) as error:
        raise SegmenterFailed(f"not readable weights: {' '.join(str(error).split())[:120]}", where=found[0]) from None
    for name in ("state_dict", "model"):
        state = state[name] if name in state and isinstance(state[name], dict) else state
    network.load_state_dict(state)
    return network


def _write_ids(path: Path, pred: Any, image: Any) -> None:
    """A prediction (channels, ni, nj, nk) as a label map where it lies: one channel of ids, or the largest of them."""
    import nibabel as nib

    values = np.asarray(pred.detach().cpu().numpy())
    if values.ndim != 4:
        raise SegmenterFailed(
            f"the bundle's answer has shape {values.shape}", mend="channels and three axes are wanted"
        )
    ids = values[0] if len(values) == 1 else values.argmax(axis=0)
    affine = getattr(pred, "affine", None)
    affine = image.affine if affine is None else affine
    nib.save(nib.Nifti1Image(np.rint(ids).astype(np.uint16), np.asarray(affine, dtype=np.float64)), path)


def _scheme(folder: Path, temporary: Path, scheme: str | Path | None) -> str | Path | None:
    metadata = folder / "configs" / "metadata.json"
    if scheme is not None or not metadata.is_file():
        return scheme
    outputs = read_json(metadata).get("network_data_format", {}).get("outputs", {})
    channels: dict[str, Any] = next((one["channel_def"] for one in outputs.values() if "channel_def" in one), {})
    table = {str(name): int(number) for number, name in channels.items() if int(number) > 0}
    if not table:
        return None
    write_json(temporary / "scheme.json", table)
    return temporary / "scheme.json"
