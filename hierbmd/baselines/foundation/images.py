"""A half image as a vision backbone takes it: by the backbone's own image-processor configuration, with torch alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from torch import Tensor
from torch.nn import functional

from hierbmd.errors import BadConfig
from hierbmd.io.atomic import read_json

PROCESSOR_FILE = "preprocessor_config.json"

Aspect = Literal["pad", "stretch", "crop"]
"""How a half of about 1:2 comes into the backbone's frame: whole with air beside it, whole but stretched, or as the
processor itself does, which cuts off what is outside the middle square."""

_BICUBIC = 3
"""PIL's number of the filter, as the configuration names it; any other is taken as bilinear."""


@dataclass(frozen=True)
class ImageProcessing:
    """What a backbone wants of an image: its size (H, W) in pixels, each channel's mean and SD on a scale of 0 to 1.

    `shortest_px` is what the shorter edge is brought to before the middle is cut out, by the processor's own "crop".
    """

    size_px: tuple[int, int]
    mean: tuple[float, ...]
    sd: tuple[float, ...]
    shortest_px: int
    bicubic: bool
    aspect: Aspect

    def prepare(self, images: Tensor) -> Tensor:
        """Normalised radiographs (B, 1, H, W), 0 to 1, bone bright, as the backbone's input (B, channels, h, w).

        Differentiable. What is beyond 0 and 1 is clipped, as an 8-bit picture would be.
        """
        placed = self._placed(images.clamp(0.0, 1.0)).clamp(0.0, 1.0)
        mean, sd = (images.new_tensor(values)[None, :, None, None] for values in (self.mean, self.sd))
        return (placed.expand(-1, len(self.mean), -1, -1) - mean) / sd

    def back(self, maps: Tensor, size_px: tuple[int, int]) -> Tensor:
        """Maps on the backbone's frame, (B, 1, h, w) of any resolution, on images of `size_px` (H, W).

        Zero where the backbone saw nothing of the image.
        """
        rows, columns = self._scaled(size_px)
        whole = functional.interpolate(maps, self.size_px, mode="bilinear", align_corners=False)
        top, left = (_start(room, length) for room, length in zip(self.size_px, (rows, columns), strict=True))
        # Negative starts are what a crop cut off: padding puts it back.
        edges = [max(-left, 0), max(columns + left - self.size_px[1], 0)]
        edges += [max(-top, 0), max(rows + top - self.size_px[0], 0)]
        seen = functional.pad(whole, edges)[..., max(top, 0) :, max(left, 0) :][..., :rows, :columns]
        return functional.interpolate(seen, size_px, mode="bilinear", align_corners=False)

    def _placed(self, images: Tensor) -> Tensor:
        rows, columns = self._scaled((images.shape[-2], images.shape[-1]))
        mode = "bicubic" if self.bicubic else "bilinear"
        scaled = functional.interpolate(images, (rows, columns), mode=mode, align_corners=False, antialias=True)
        top, left = (_start(room, length) for room, length in zip(self.size_px, (rows, columns), strict=True))
        # Padding below zero cuts.
        return functional.pad(scaled, [left, self.size_px[1] - columns - left, top, self.size_px[0] - rows - top])

    def _scaled(self, size_px: tuple[int, int]) -> tuple[int, int]:
        """The size (rows, columns) of the whole image at the backbone's scale."""
        if self.aspect == "stretch":
            return self.size_px
        if self.aspect == "pad":
            factor = min(self.size_px[0] / size_px[0], self.size_px[1] / size_px[1])
        else:
            factor = self.shortest_px / min(size_px)
        return max(round(size_px[0] * factor), 1), max(round(size_px[1] * factor), 1)

    def to_json(self) -> dict[str, Any]:
        """Plain data for a card."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ImageProcessing:
        """What a card says; KeyError or TypeError when it says something else."""
        listed = {name: tuple(value[name]) for name in ("size_px", "mean", "sd")}
        return cls(**{**value, **listed})


def read_processing(folder: Path, channels: int, aspect: Aspect) -> ImageProcessing:
    """A backbone's image processing from its folder's preprocessor_config.json.

    BadConfig where there is none, or no size, mean and SD in it that fit the backbone's channels.
    """
    path = folder / PROCESSOR_FILE
    if not path.is_file():
        raise BadConfig("a backbone without its image processor", where=folder, mend=f"put its {PROCESSOR_FILE} there")
    config = read_json(path)
    try:
        shortest = _edges(config["size"])
        cropped = config.get("do_center_crop") and config.get("crop_size")
        size_px = _edges(config["crop_size"]) if cropped else shortest
        normalised = config.get("do_normalize", True)
        mean = _channels(config["image_mean"] if normalised else 0.0, channels)
        sd = _channels(config["image_std"] if normalised else 1.0, channels)
        bicubic = int(config.get("resample", _BICUBIC)) == _BICUBIC
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadConfig(f"not a usable image processor ({error!r})", where=path, mend="take the model's own") from None
    if min(*size_px, *shortest) < 1 or min(sd) <= 0:
        raise BadConfig("no size or SD of an image", where=path, mend="take the model's own")
    return ImageProcessing(size_px, mean, sd, min(shortest), bicubic, aspect)


def _start(room: int, length: int) -> int:
    return (room - length) // 2


def _edges(size: Any) -> tuple[int, int]:
    """(H, W) of a size in any of the forms that image processors have had."""
    if isinstance(size, Mapping):
        if "height" in size:
            return int(size["height"]), int(size["width"])
        return (int(size["shortest_edge"]),) * 2
    return (int(size),) * 2


def _channels(values: Any, channels: int) -> tuple[float, ...]:
    listed = [float(x) for x in values] if isinstance(values, (list, tuple)) else [float(values)]
    if len(listed) not in (1, channels):
        raise ValueError(f"{len(listed)} channels, the backbone takes {channels}")
    return tuple(listed if len(listed) == channels else listed * channels)
