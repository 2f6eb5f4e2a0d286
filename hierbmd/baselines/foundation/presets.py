"""Which base model a name stands for: a preset's, a small one of random weights, a folder's or a hub's."""

from __future__ import annotations

from dataclasses import replace
from importlib import resources
from pathlib import Path

from hierbmd.baselines.foundation.base import Base, locate, read_base
from hierbmd.baselines.foundation.images import Aspect
from hierbmd.baselines.foundation.random_base import RANDOM_BASES, write_random_base
from hierbmd.training.configure import config_path, read_yaml

_FOLDER = "baselines/foundation"


def presets() -> tuple[str, ...]:
    """The names of the presets, one YAML each in configs/baselines/foundation/."""
    files = resources.files("hierbmd.configs").joinpath(_FOLDER).iterdir()
    return tuple(sorted(Path(file.name).stem for file in files if file.name.endswith(".yaml")))


def found_base(
    backbone: str, revision: str = "", *, aspect: Aspect, seed: int = 0, write_to: Path | None = None
) -> Base:
    """The base model of a name; one of RANDOM_BASES is written to `write_to`. Errors as `locate` and `read_base`."""
    if backbone in RANDOM_BASES:
        assert write_to is not None
        folder = write_random_base(backbone, write_to, seed=seed)
        return read_base(folder, name=backbone, aspect=aspect)
    if backbone in presets():
        settings = read_yaml(config_path(f"{_FOLDER}/{backbone}"))
        hub, revision = str(settings["backbone"]), revision or str(settings.get("revision", ""))
        return replace(read_base(locate(hub, revision), name=backbone, aspect=aspect), source=hub)
    folder = locate(backbone, revision)
    name = Path(backbone).name
    source = str(folder.absolute()) if Path(backbone).expanduser().is_dir() else backbone
    return replace(read_base(folder, name=name, aspect=aspect), source=source)
