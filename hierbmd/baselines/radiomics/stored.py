"""A fitted pipeline as plain tensors, and the arithmetic that reads with them: no pickle, no scikit-learn object."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hierbmd.errors import WrongWeights

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline
    from torch import Tensor

Matrix = NDArray[np.float64]

_SCALES = ("fill", "mean", "scale", "bmd_line", "risk_share")
_LAYERS = ("weight_0", "bias_0", "weight_1", "bias_1")


@dataclass(frozen=True)
class StoredModel:
    """One of the seven models: the columns that it selected, how each is filled and scaled, and its two networks.

    `arrays` are float64: `fill`, `mean`, `scale` (n,); `bmd_line` (2,) the mean and SD of the BMD, g/cm2;
    `risk_share` (1,) the share of training images with the condition; `bmd.*` and `risk.*` the layers of the networks,
    none where no column was selected or no class was there to learn.
    """

    columns: tuple[str, ...]
    arrays: Mapping[str, Matrix]

    def read(self, X: Matrix) -> Matrix:
        """BMD in g/cm2 and the probability of the condition, (n, 2), of the selected columns (n, p), NaN not known."""
        a = self.arrays
        filled = np.where(np.isnan(X), a["fill"], X)
        scaled = (filled - a["mean"]) / a["scale"]
        bmd = a["bmd_line"][0] + a["bmd_line"][1] * self._network("bmd", scaled)
        share = float(a["risk_share"][0])
        if "risk.weight_0" in a:
            risk = 1.0 / (1.0 + np.exp(-self._network("risk", scaled)))
        else:
            risk = np.full(len(X), share if 0 < share < 1 else np.nan)
        return np.column_stack([np.maximum(bmd, 0.0), risk])

    def _network(self, name: str, scaled: Matrix) -> NDArray[np.float64]:
        if f"{name}.weight_0" not in self.arrays:
            return np.zeros(len(scaled))
        w0, b0, w1, b1 = (self.arrays[f"{name}.{layer}"] for layer in _LAYERS)
        return np.asarray((np.maximum(scaled @ w0 + b0, 0.0) @ w1 + b1)[:, 0])

    def tensors(self, prefix: str) -> dict[str, Tensor]:
        """The arrays for a weights file."""
        import torch

        return {f"{prefix}{name}": torch.from_numpy(np.array(x, dtype=np.float64)) for name, x in self.arrays.items()}

    @classmethod
    def of_pipeline(cls, pipeline: Pipeline, columns: Sequence[str]) -> StoredModel:
        """What a fitted pipeline of the named columns keeps."""
        kept, heads = pipeline["select"].get_support(), pipeline["read"]
        arrays: dict[str, Any] = {
            "fill": pipeline["impute"].statistics_[kept],
            "mean": pipeline["scale"].mean_[kept],
            "scale": pipeline["scale"].scale_[kept],
            "bmd_line": np.array([heads.mean_, 0.0]),
            "risk_share": np.array([heads.share_]),
        }
        if heads.bmd_ is not None:
            scale = heads.bmd_.transformer_
            arrays["bmd_line"] = np.array([scale.mean_[0], scale.scale_[0]])
            arrays |= _layers("bmd", heads.bmd_.regressor_)
        if heads.risk_ is not None:
            arrays |= _layers("risk", heads.risk_)
        selected = tuple(name for name, keep in zip(columns, kept, strict=True) if keep)
        return cls(selected, {name: np.asarray(x, dtype=np.float64) for name, x in arrays.items()})

    @classmethod
    def of_tensors(
        cls, tensors: Mapping[str, Tensor], prefix: str, columns: Sequence[str], *, where: object = ""
    ) -> StoredModel:
        """The model among a weights file's tensors; WrongWeights when they do not fit the card's columns."""
        arrays = {name.removeprefix(prefix): t.numpy() for name, t in tensors.items() if name.startswith(prefix)}
        missing = [name for name in _SCALES if name not in arrays]
        wrong = [name for name in ("fill", "mean", "scale") if name in arrays and arrays[name].shape != (len(columns),)]
        if missing or wrong:
            raise WrongWeights(
                f"the tensors of {prefix.rstrip('.')} do not fit the card", where=f"{where} {missing or wrong}"
            )
        return cls(tuple(columns), arrays)


def _layers(name: str, network: Any) -> dict[str, Matrix]:
    parts = (network.coefs_[0], network.intercepts_[0], network.coefs_[1], network.intercepts_[1])
    return {f"{name}.{layer}": part for layer, part in zip(_LAYERS, parts, strict=True)}
