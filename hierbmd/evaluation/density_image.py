"""How near a predicted density image is to the true one: errors in g/cm2 on the bone, PSNR, SSIM and region bias."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.float32]
Mask = NDArray[np.bool_]

_SSIM_WINDOW_PX = 11
_SSIM_SIGMA_PX = 1.5


@dataclass(frozen=True)
class DensityImageFigures:
    """One image's figures: errors and the region's bias in g/cm2, PSNR in dB, SSIM in -1..1; None where undefined."""

    density_mae_g_cm2: float
    density_psnr_db: float | None
    density_ssim: float | None
    region_bias_g_cm2: float | None

    def as_row(self) -> dict[str, float | None]:
        """The figures by name."""
        return asdict(self)


DENSITY_FIGURES = tuple(field.name for field in fields(DensityImageFigures))


def density_image_figures(predicted: Image, true: Image, *, region: Mask, peak_g_cm2: float) -> DensityImageFigures:
    """Figures of a predicted against a true areal-density image, both (H, W) in g/cm2.

    Errors and SSIM are taken over the bone (where the truth is above zero, grown by half an SSIM window), not over the
    empty frame, which would flatter any model. `region` (H, W) is the density-measuring region; `peak_g_cm2` is the
    range for PSNR and SSIM, the same for every image of an evaluation.
    """
    if predicted.shape != true.shape or region.shape != true.shape:
        raise ValueError(f"images of one size, not {predicted.shape}, {true.shape} and {region.shape}")
    bone = _bone(true)
    error = predicted.astype(np.float64)[bone] - true.astype(np.float64)[bone]
    square = float(np.mean(error**2))
    return DensityImageFigures(
        density_mae_g_cm2=float(np.mean(np.abs(error))),
        density_psnr_db=10.0 * float(np.log10(peak_g_cm2**2 / square)) if square > 0 else None,
        density_ssim=_mean_ssim(predicted, true, bone, peak_g_cm2),
        region_bias_g_cm2=_region_bias(predicted, true, region),
    )


def _bone(true: Image) -> Mask:
    """Where the truth holds bone, with its surroundings; the whole frame where there is none."""
    from scipy.ndimage import binary_dilation

    bone = true > 0
    grown = binary_dilation(bone, iterations=_SSIM_WINDOW_PX // 2)
    return np.asarray(grown) if bone.any() else np.ones_like(bone)


def _region_bias(predicted: Image, true: Image, region: Mask) -> float | None:
    if not region.any():
        return None
    return float(np.mean(predicted[region], dtype=np.float64) - np.mean(true[region], dtype=np.float64))


def _mean_ssim(predicted: Image, true: Image, bone: Mask, peak_g_cm2: float) -> float | None:
    """Mean structural similarity over the bone, Gaussian window of 11 px and 1.5 px (Wang et al., IEEE TIP 2004)."""
    import torch
    from monai.metrics.regression import compute_ssim_and_cs

    margin = _SSIM_WINDOW_PX // 2
    inner = bone[margin:-margin, margin:-margin]
    if min(true.shape) <= 2 * margin or not inner.any():
        return None
    similarity, _ = compute_ssim_and_cs(
        torch.from_numpy(np.ascontiguousarray(predicted, dtype=np.float64))[None, None],
        torch.from_numpy(np.ascontiguousarray(true, dtype=np.float64))[None, None],
        spatial_dims=2,
        data_range=peak_g_cm2,
        kernel_type="gaussian",
        kernel_size=(_SSIM_WINDOW_PX, _SSIM_WINDOW_PX),
        kernel_sigma=(_SSIM_SIGMA_PX, _SSIM_SIGMA_PX),
    )
    return float(similarity[0, 0].numpy()[inner].mean())
