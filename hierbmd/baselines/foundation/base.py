"""A pretrained vision model on disk: found, checked, hashed, and loaded without running any code of its own."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hierbmd.baselines.foundation.images import PROCESSOR_FILE, Aspect, ImageProcessing, read_processing
from hierbmd.errors import BadConfig, MissingExtra, UntrustedWeights, WrongWeights
from hierbmd.io.atomic import read_json

if TYPE_CHECKING:
    from torch import nn

CONFIG_FILE = "config.json"

_WEIGHTS = ("model.safetensors", "model-*-of-*.safetensors")
"""What transformers loads: one file, or the shards that an index names. Other weights may lie beside them."""
_FILES = (CONFIG_FILE, PROCESSOR_FILE, *_WEIGHTS, "model.safetensors.index.json")
"""All that is taken from a hub: no pickle and no code."""
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.h5", "*.msgpack")
_UNUSED = ("pooler.",)
"""Parts that a checkpoint may lack: features are taken before them."""


@dataclass(frozen=True)
class Base:
    """A base model: its name as given, its folder, its configuration and image processing, and what identifies it.

    `source` is where adapters find it again: a folder or a hub id, "" for one that the run keeps itself.
    `config_sha256` is over the vision model's configuration without what transformers notes down when it loads it,
    `weights_sha256` over its safetensors files. `pretrained` is False for weights drawn at random.
    """

    name: str
    folder: Path
    config: Mapping[str, Any]
    processing: ImageProcessing
    config_sha256: str
    weights_sha256: str
    pretrained: bool = True
    source: str = ""

    def identity(self) -> dict[str, Any]:
        """What a card keeps of it, to load adapters on the same model again."""
        return {
            "name": self.name,
            "source": self.source,
            "config": dict(self.config),
            "processing": self.processing.to_json(),
            "config_sha256": self.config_sha256,
            "weights_sha256": self.weights_sha256,
            "pretrained": self.pretrained,
            "note": "" if self.pretrained else RANDOM_NOTE,
        }


RANDOM_NOTE = "random weights, not pretrained"
WEIGHTS_KEY = "weights"
"""Under which an image processor's configuration says RANDOM_NOTE: in a weights file the bytes would not be fixed."""


def require_extra() -> None:
    """MissingExtra in one line when transformers, peft or captum cannot be imported."""
    try:
        import captum  # noqa: F401
        import peft  # noqa: F401
        import transformers  # noqa: F401
    except (ImportError, RuntimeError) as error:
        raise MissingExtra(
            f"foundation models need transformers, peft and captum ({str(error).splitlines()[0]})",
            mend="pip install 'hierbmd[foundation]'",
        ) from None


def locate(backbone: str, revision: str = "") -> Path:
    """The folder of a model: a folder as it is, or the files of a Hugging Face hub id, fetched once and kept.

    BadConfig in one line when it is neither, or the hub cannot be reached.
    """
    folder = Path(backbone).expanduser()
    if folder.is_dir():
        return folder
    if backbone.startswith((".", "/", "~")) or backbone.count("/") != 1:
        raise BadConfig("no such backbone", where=backbone, mend="a folder, a preset, random-..., or a hub id ORG/NAME")
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(backbone, revision=revision or None, allow_patterns=list(_FILES)))
    except (OSError, ValueError, RuntimeError) as error:
        raise BadConfig(
            f"the backbone is no folder here and cannot be fetched from the hub ({type(error).__name__})",
            where=backbone,
            mend="check the name and the connection, or fetch it elsewhere and give its folder",
        ) from None


def read_base(folder: Path, *, name: str, aspect: Aspect) -> Base:
    """What a model's folder holds, checked; nothing is loaded.

    Weights that `write_random_base` drew are said to be so in its image processor, wherever that has been copied to.

    Errors: UntrustedWeights (only pickles), BadConfig (no configuration or image processor, or one that names code of
    its own or a model that transformers does not have).
    """
    config = _vision_config(folder)
    weights = sorted(path for pattern in _WEIGHTS for path in folder.glob(pattern))
    if not weights:
        pickles = [path.name for pattern in _PICKLES for path in folder.glob(pattern)]
        found = f": {', '.join(pickles)}" if pickles else ""
        raise UntrustedWeights(
            f"a backbone is read from safetensors only{found}", where=folder, mend="save it again as safetensors"
        )
    digest = hashlib.sha256()
    for path in weights:
        with path.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    plain = _plain(config)
    processing = read_processing(folder, int(plain.get("num_channels", 3)), aspect)
    canonical = json.dumps(plain, sort_keys=True).encode()
    config_sha256 = hashlib.sha256(canonical).hexdigest()
    drawn = read_json(folder / PROCESSOR_FILE).get(WEIGHTS_KEY) == RANDOM_NOTE
    return Base(name, folder, plain, processing, config_sha256, digest.hexdigest(), pretrained=not drawn)


def require_same(base: Base, identity: Mapping[str, Any]) -> None:
    """Raise WrongWeights, both named, when a base model is not the one that adapters were trained on."""
    for what in ("config_sha256", "weights_sha256"):
        if getattr(base, what) != identity[what]:
            raise WrongWeights(
                f"the adapters are of base model {identity['name']} with {what} {identity[what][:12]}; "
                f"this one has {getattr(base, what)[:12]}",
                where=base.folder,
                mend="give the base model that they were trained on",
            )


def load_base(base: Base) -> nn.Module:
    """The base model with its weights, float32, on the CPU; WrongWeights when the files do not fill it."""
    from safetensors import SafetensorError
    from transformers import AutoModel

    try:
        with _quiet():
            model, info = AutoModel.from_pretrained(
                base.folder,
                config=_config_from(base.config),
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
                dtype="float32",
            )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise WrongWeights(
            f"the backbone cannot be loaded ({str(error).splitlines()[0][:200]})",
            where=base.folder,
            mend="check that its files are whole and of one model",
        ) from None
    lacking = sorted(name for name in info["missing_keys"] if not name.startswith(_UNUSED))
    if lacking or info["mismatched_keys"]:
        raise WrongWeights(
            f"the weights do not fill the backbone: {', '.join(lacking[:3]) or 'other shapes'}",
            where=base.folder,
            mend="check that its files are whole and of one model",
        )
    module: nn.Module = model
    return module.eval()


def empty_base(config: Mapping[str, Any]) -> nn.Module:
    """The model of a card's configuration, to be filled with weights; WrongWeights when transformers has none."""
    from transformers import AutoModel

    try:
        module: nn.Module = AutoModel.from_config(_config_from(config))
    except (KeyError, TypeError, ValueError) as error:
        raise WrongWeights(f"the card names no backbone known here ({str(error)[:200]})") from None
    return module.eval()


def _vision_config(folder: Path) -> Any:
    """The configuration of the model, or of the image tower of one for images and text."""
    from transformers import AutoConfig

    path = folder / CONFIG_FILE
    stored = read_json(path)
    if not isinstance(stored, dict) or "auto_map" in stored:
        raise BadConfig(
            "a backbone with code of its own is not loaded",
            where=path,
            mend="use a model of a class that transformers has",
        )
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadConfig(
            f"no backbone that transformers has ({str(error).splitlines()[0][:160]})", where=path, mend="check its type"
        ) from None
    return getattr(config, "vision_config", config)


def _plain(config: Any) -> dict[str, Any]:
    """A configuration as plain data, without what depends on the release that reads it or on the place of the files."""
    passing = ("transformers_version", "_name_or_path", "architectures", "dtype", "torch_dtype", "_attn_implementation")
    diff = json.loads(config.to_json_string(use_diff=True))
    return {"model_type": config.model_type} | {key: value for key, value in diff.items() if key not in passing}


def _config_from(plain: Mapping[str, Any]) -> Any:
    from transformers import AutoConfig

    return AutoConfig.for_model(**plain)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' bars and its report of the text tower's weights, which are left out on purpose."""
    from transformers.utils import logging as theirs

    level, bars = theirs.get_verbosity(), theirs.is_progress_bar_enabled()
    theirs.set_verbosity(logging.ERROR)
    theirs.disable_progress_bar()
    try:
        yield
    finally:
        theirs.set_verbosity(level)
        if bars:
            theirs.enable_progress_bar()
