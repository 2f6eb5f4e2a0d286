"""A model's folder: `weights.safetensors` with its card, `card.json`, and nothing that could run code."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from hierbmd.data.card import ModelCard
from hierbmd.errors import UntrustedWeights
from hierbmd.io.atomic import atomic_path, read_json, write_json

if TYPE_CHECKING:
    from torch import Tensor

WEIGHTS_FILE = "weights.safetensors"
CARD_FILE = "card.json"

_RULE = "only safetensors with a matching card"


def write_weights(folder: str | Path, tensors: Mapping[str, Tensor], card: ModelCard) -> ModelCard:
    """Write a model's tensors and its card into a folder; returns the card with the weights' SHA-256.

    The card is written last, so that a stop between the two leaves a mismatch that is refused, never a false pair.
    """
    from safetensors.torch import save

    data = save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
    with atomic_path(Path(folder) / WEIGHTS_FILE) as temporary:
        temporary.write_bytes(data)
    stamped = dataclasses.replace(card, sha256=hashlib.sha256(data).hexdigest())
    write_json(Path(folder) / CARD_FILE, stamped.to_json())
    return stamped


def read_card(folder: str | Path) -> ModelCard:
    """The card of a model's folder; UntrustedWeights when the folder is a bare file, or there is no card."""
    folder = Path(folder)
    _require_folder(folder)
    return ModelCard.from_json(read_json(folder / CARD_FILE), where=folder / CARD_FILE)


def read_weights(folder: str | Path) -> tuple[dict[str, Tensor], ModelCard]:
    """A model's tensors and card.

    UntrustedWeights: a pickle (.ckpt, .pt, .pth, .bin) in any disguise, no card, or a hash that is not the card's;
    WrongWeights: a card of another version.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    card = read_card(folder)
    path = Path(folder) / WEIGHTS_FILE
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != card.sha256:
        raise UntrustedWeights(f"{_RULE}: the hash differs from the card's", where=path, mend="export the run again")
    try:
        return load(data), card
    except SafetensorError as error:
        raise UntrustedWeights(f"{_RULE}: {error}", where=path, mend="export the run again") from None


def _require_folder(folder: Path) -> None:
    if not folder.exists():
        raise UntrustedWeights("no such model", where=folder, mend=f"give a folder with {WEIGHTS_FILE} and {CARD_FILE}")
    if not folder.is_dir():
        raise UntrustedWeights(_RULE, where=folder, mend=f"give the folder that holds {WEIGHTS_FILE} and {CARD_FILE}")
    missing = [name for name in (WEIGHTS_FILE, CARD_FILE) if not (folder / name).is_file()]
    if missing:
        raise UntrustedWeights(f"{_RULE}: no {' and no '.join(missing)}", where=folder, mend="finish or export the run")
