"""itk-elastix: affine, then B-spline, from one CT to another; imported only when it is asked for."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hierbmd.errors import LabelsMismatch, MissingExtra
from hierbmd.geometry import Grid

_COMMON = {
    "FixedInternalImagePixelType": ["float"],
    "MovingInternalImagePixelType": ["float"],
    "Registration": ["MultiResolutionRegistration"],
    "FixedImagePyramid": ["FixedSmoothingImagePyramid"],
    "MovingImagePyramid": ["MovingSmoothingImagePyramid"],
    "Interpolator": ["LinearInterpolator"],
    "ResampleInterpolator": ["FinalLinearInterpolator"],
    "Resampler": ["DefaultResampler"],
    "Optimizer": ["AdaptiveStochasticGradientDescent"],
    "AutomaticParameterEstimation": ["true"],
    "AutomaticTransformInitialization": ["false"],
    "AutomaticScalesEstimation": ["true"],
    "HowToCombineTransforms": ["Compose"],
    "ImageSampler": ["RandomCoordinate"],
    "NewSamplesEveryIteration": ["true"],
    "CheckNumberOfSamples": ["true"],
    "MaximumNumberOfSamplingAttempts": ["10"],
    "RequiredRatioOfValidSamples": ["0.05"],
    "UseDirectionCosines": ["true"],
    "ErodeMask": ["false"],
    "ErodeFixedMask": ["false"],
    "ErodeMovingMask": ["false"],
    "RandomSeed": ["20220917"],
    "WriteResultImage": ["false"],
    "DefaultPixelValue": ["-150"],
}


@dataclass(frozen=True)
class ElastixImage:
    """What elastix sees: `values` (ni, nj, nk) float32 and `mask` bool on `grid`, whose axes are the patient's."""

    values: NDArray[np.float32]
    mask: NDArray[np.bool_]
    grid: Grid


def import_elastix() -> Any:
    """The package itk with elastix in it; MissingExtra in one line without."""
    try:
        import itk

        _ = itk.ElastixRegistrationMethod
    except (ImportError, AttributeError) as error:
        raise MissingExtra(
            f"atlas registration needs itk-elastix ({error})", mend="pip install hierbmd[elastix]"
        ) from None
    return itk


def field_mm(fixed: ElastixImage, moving: ElastixImage, *, threads: int, final_mm: float) -> NDArray[np.float64]:
    """Where each voxel of `fixed` lies in `moving`: displacements (ni, nj, nk, 3) in LPS mm.

    Rigid, affine, then a B-spline of `final_mm` between control points, normalised correlation inside the masks, fixed
    random seed. LabelsMismatch when elastix gives up (too little overlap).
    """
    itk = import_elastix()
    itk.MultiThreaderBase.SetGlobalDefaultNumberOfThreads(threads)
    parameters = itk.ParameterObject.New()
    for step in _steps(final_mm):
        parameters.AddParameterMap(step)
    elastix = itk.ElastixRegistrationMethod.New(
        _image(itk, fixed.values, fixed.grid), _image(itk, moving.values, moving.grid)
    )
    elastix.SetFixedMask(_image(itk, fixed.mask.astype(np.uint8), fixed.grid))
    elastix.SetMovingMask(_image(itk, moving.mask.astype(np.uint8), moving.grid))
    elastix.SetParameterObject(parameters)
    elastix.SetNumberOfThreads(threads)
    elastix.SetLogToConsole(False)
    try:
        elastix.UpdateLargestPossibleRegion()
        transformix = itk.TransformixFilter.New(
            Input=_image(itk, moving.values, moving.grid),
            TransformParameterObject=elastix.GetTransformParameterObject(),
        )
        transformix.SetComputeDeformationField(True)
        transformix.SetLogToConsole(False)
        # It leaves the field as a file, in the working directory unless told otherwise.
        with tempfile.TemporaryDirectory(prefix="hierbmd-") as folder:
            transformix.SetOutputDirectory(folder)
            transformix.UpdateLargestPossibleRegion()
    except RuntimeError as error:
        last = " ".join(str(error).split())[-160:]
        raise LabelsMismatch(
            f"elastix could not register the atlas: {last}", mend="an atlas of this part of the body"
        ) from None
    field = itk.array_from_image(transformix.GetOutputDeformationField())
    return np.asarray(field.transpose(2, 1, 0, 3), dtype=np.float64)


def _steps(final_mm: float) -> tuple[dict[str, list[str]], ...]:
    return _linear("Euler"), _linear("Affine"), _spline(final_mm)


def _linear(transform: str) -> dict[str, list[str]]:
    return _COMMON | {
        "Transform": [f"{transform}Transform"],
        "Metric": ["AdvancedNormalizedCorrelation"],
        "NumberOfResolutions": ["2"],
        "ImagePyramidSchedule": ["4", "4", "4", "2", "2", "2"],
        "MaximumNumberOfIterations": ["150"],
        "NumberOfSpatialSamples": ["3000"],
    }


def _spline(final_mm: float) -> dict[str, list[str]]:
    # Stiffness comes from the distance of the control points: the bending-energy penalty beside a composed transform
    # ends this build of elastix (5.3) with a segmentation fault.
    return _COMMON | {
        "Transform": ["RecursiveBSplineTransform"],
        "Metric": ["AdvancedNormalizedCorrelation"],
        "NumberOfResolutions": ["3"],
        "ImagePyramidSchedule": ["4", "4", "4", "2", "2", "2", "1", "1", "1"],
        "FinalGridSpacingInPhysicalUnits": [f"{final_mm:g}"],
        "GridSpacingSchedule": ["4", "2", "1"],
        "MaximumNumberOfIterations": ["200"],
        "NumberOfSpatialSamples": ["4000"],
    }


def _image(itk: Any, values: NDArray[Any], grid: Grid) -> Any:
    image = itk.image_from_array(np.ascontiguousarray(values.transpose(2, 1, 0)))
    image.SetSpacing(grid.spacing_mm.tolist())
    image.SetOrigin(grid.world_from_index[:3, 3].tolist())
    return image
