"""`hierbmd segment`: bones and density-measuring regions on a CT."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

from hierbmd.anatomy.options import RegionOptions
from hierbmd.cli._options import parse
from hierbmd.errors import BadConfig
from hierbmd.options import option, part


@dataclass(frozen=True)
class Options:
    """Bones and regions on a CT: a given label map is checked, mapped to TotalSegmentator v2, and regions are added."""

    ct: Path = option("the CT: DICOM folder, NIfTI, NRRD or MHA", positional=True)
    out: Path = option("folder for labels.nii.gz, total_hip.nii.gz, femoral_neck.nii.gz, scheme.json")
    labels: Path | None = option("label map of the CT's bones", None)
    scheme: Path | None = option("JSON {name: id} of the label map; TotalSegmentator v2 without", None)
    region: RegionOptions = field(default_factory=RegionOptions, metadata=part(only=("below_trochanter_mm",)))
    resample_tilt: bool = option("resample a CT with gantry tilt instead of refusing it", False)


def main(argv: list[str]) -> int:
    """Run `hierbmd segment`; returns the exit status."""
    return run(parse("segment", Options, argv))


def run(options: Options) -> int:
    """Read, check and write; refusals are raised, a region that cannot be placed is said."""
    if options.labels is None:
        raise BadConfig("nothing says where the bones are", mend="give --labels")
    from hierbmd.anatomy.regions import REGION_IDS
    from hierbmd.anatomy.segmentation import checked_segmentation
    from hierbmd.data.density import RESEARCH_USE_ONLY
    from hierbmd.io.atomic import write_json
    from hierbmd.io.ct import read_volume
    from hierbmd.io.image import write_labels
    from hierbmd.io.labels import read_labels

    volume = read_volume(options.ct, resample_tilt=options.resample_tilt)
    labels = read_labels(options.labels, scheme=options.scheme, onto=volume.grid)
    found = checked_segmentation(volume, labels, options.region)
    write_labels(options.out / "labels.nii.gz", found.labels)
    for kind, region in found.regions.items():
        write_labels(options.out / f"{kind}.nii.gz", region)
    write_json(options.out / "scheme.json", {**found.labels.scheme, **REGION_IDS})
    write_json(options.out / "segmentation.json", {"research_use_only": RESEARCH_USE_ONLY, **found.findings})
    for name, bone in found.findings["bones"].items():
        if bone["metal_mm3"] > 0:
            print(f"{name}: metal, {bone['metal_mm3']:.0f} mm3, taken out", file=sys.stderr)
    for name, femur in found.findings["femora"].items():
        print(f"{name}: {femur.get('no_region', 'total hip and femoral neck placed')}", file=sys.stderr)
    return 0
