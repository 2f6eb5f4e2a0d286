"""Writers of volumes, label maps and images; each file appears whole or not at all."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hierbmd.data.schemes import TOTALSEGMENTATOR_V2
from hierbmd.data.volume import LabelMap, Volume
from hierbmd.errors import OutputUnwritable
from hierbmd.geometry import Grid
from hierbmd.io import guards
from hierbmd.io.atomic import atomic_path
from hierbmd.io.labels import smallest_unsigned

_UNIT_KEY = "hierbmd_unit"
IMAGE_KIND = "image"


class MhaImage(NamedTuple):
    """An image file's content: `pixels` (H, W) or (S, H, W), `pixel_mm` (du, dv), and the text written beside them."""

    pixels: NDArray[Any]
    pixel_mm: tuple[float, float]
    metadata: dict[str, str]


def write_volume(path: str | Path, volume: Volume) -> None:
    """Write a volume as float32, .nii(.gz) or .mha, with its unit in the file (NIfTI `descrip`, MHA `hierbmd_unit`).

    Axis order, signs and shear are kept. OutputUnwritable for another suffix or an unwritable folder.
    """
    _write(Path(path), np.asarray(volume.values, dtype=np.float32), grid=volume.grid, unit=volume.unit)


def write_labels(path: str | Path, labels: LabelMap) -> None:
    """Write a label map in the smallest unsigned type that holds its ids, .nii(.gz) or .mha.

    Where ids are not TotalSegmentator v2's, a NIfTI carries the names in it; an MHA has no place for them, so it needs
    its scheme file beside it.
    """
    own_names = labels.scheme if not labels.scheme.items() <= TOTALSEGMENTATOR_V2.items() else {}
    _write(Path(path), smallest_unsigned(labels.ids), grid=labels.grid, unit="label id", label_names=own_names)


def write_mha_image(
    path: str | Path,
    image: NDArray[Any],
    *,
    pixel_mm: tuple[float, float],
    metadata: Mapping[str, str] | None = None,
    compress: bool = True,
) -> None:
    """Write an image (H, W) or a stack (S, H, W) as float32 .mha, `metadata` (unit, material, quantity) in its header.

    Columns are `pixel_mm[0]` apart and rows `pixel_mm[1]`. Keys and values are single-line text. `compress` deflates.
    """
    import SimpleITK as sitk  # noqa: N813

    if image.ndim not in (2, 3):
        raise ValueError(f"an image is (H, W) or (S, H, W), not {image.shape}")
    out = sitk.GetImageFromArray(np.ascontiguousarray(image, dtype=np.float32))
    out.SetSpacing([float(pixel_mm[0]), float(pixel_mm[1]), 1.0][: image.ndim])
    for key, value in (metadata or {}).items():
        out.SetMetaData(_one_line(key), _one_line(value))
    _write_itk(Path(path), out, compress=compress)


def read_mha_image(path: str | Path, *, max_gib: float = guards.DEFAULT_MAX_GIB) -> MhaImage:
    """Read back what `write_mha_image` wrote; UnreadableFile or OversizedFile for what is not a whole image."""
    import SimpleITK as sitk  # noqa: N813

    from hierbmd.io.itk_image import read_itk_image

    image = read_itk_image(path, kind=IMAGE_KIND, max_gib=max_gib, dimensions=(2, 3))
    spacing = image.GetSpacing()
    keys = [key for key in image.GetMetaDataKeys() if not key.startswith("ITK_") and key != "Modality"]
    metadata = {key: image.GetMetaData(key) for key in keys}
    return MhaImage(sitk.GetArrayFromImage(image), (spacing[0], spacing[1]), metadata)


def write_png(path: str | Path, image: NDArray[Any], *, window: tuple[float, float] | None = None) -> None:
    """Write an image (H, W) as an 8-bit grey PNG for looking at: `window` (low, high) goes to black and white.

    Without a window it is the image's 0.5 and 99.5 percentile. Not finite pixels are black. (H, W, 3) uint8 is written
    as colour, as it is.
    """
    from PIL import Image

    grey = image if image.ndim == 3 else windowed(image, window)
    # Runs alone: a third of the time that zlib takes by default, and no larger on radiographs.
    settings = {"compress_level": 1, "compress_type": zlib.Z_RLE}
    with atomic_path(path) as temporary:
        Image.fromarray(np.ascontiguousarray(grey, dtype=np.uint8)).save(temporary, format="PNG", **settings)


def windowed(image: NDArray[Any], window: tuple[float, float] | None = None) -> NDArray[np.uint8]:
    """The image as 8-bit grey, `window` (low, high) mapped linearly to 0..255 and clipped."""
    finite = image[np.isfinite(image)]
    if window is None:
        low, high = np.percentile(finite, (0.5, 99.5)) if finite.size else (0.0, 1.0)
    else:
        low, high = window
    span = float(high - low) or 1.0
    scaled = (np.nan_to_num(np.asarray(image, dtype=np.float64), nan=low, posinf=high, neginf=low) - low) / span
    return np.asarray(np.rint(np.clip(scaled, 0.0, 1.0) * 255.0), dtype=np.uint8)


def _write(
    path: Path, values: NDArray[Any], *, grid: Grid, unit: str, label_names: Mapping[str, int] | None = None
) -> None:
    name = path.name.lower()
    if name.endswith((".nii", ".nii.gz")):
        from hierbmd.io.nifti import add_label_table, nifti_image

        image = nifti_image(values, grid)
        if label_names:
            add_label_table(image, label_names)
        image.header["descrip"] = unit.encode("ascii", "replace")[:79]
        with atomic_path(path) as temporary:
            image.to_filename(temporary)
    elif name.endswith(".mha"):
        _write_itk(path, _itk_volume(values, grid, unit))
    else:
        raise OutputUnwritable(
            f"no writer for {path.suffix or 'a name without suffix'}", where=path, mend=".nii.gz, .mha"
        )


def _itk_volume(values: NDArray[Any], grid: Grid, unit: str) -> Any:
    import SimpleITK as sitk  # noqa: N813

    image = sitk.GetImageFromArray(np.ascontiguousarray(values.transpose(2, 1, 0)))
    image.SetSpacing(grid.spacing_mm.tolist())
    image.SetDirection((grid.world_from_index[:3, :3] / grid.spacing_mm).ravel().tolist())
    image.SetOrigin(grid.world_from_index[:3, 3].tolist())
    image.SetMetaData(_UNIT_KEY, unit)
    return image


def _write_itk(path: Path, image: Any, *, compress: bool = True) -> None:
    import SimpleITK as sitk  # noqa: N813

    with atomic_path(path) as temporary:
        try:
            sitk.WriteImage(image, str(temporary), useCompression=compress, imageIO="MetaImageIO")
        except RuntimeError as error:
            # ITK reports a full disk or a missing folder as its own RuntimeError.
            raise OutputUnwritable("cannot write", where=path, mend=str(error).splitlines()[-1]) from None


def _one_line(text: str) -> str:
    return " ".join(str(text).split())
