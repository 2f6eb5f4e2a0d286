"""`hierbmd segment`: bones and density-measuring regions on a CT."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hierbmd.anatomy.atlas_options import ATLAS_NAMES, AtlasOptions
from hierbmd.anatomy.options import RegionOptions
from hierbmd.anatomy.segmenter_options import SEGMENTER_NAMES, TOTALSEGMENTATOR, SegmenterOptions
from hierbmd.cli._options import parse
from hierbmd.errors import BadConfig
from hierbmd.options import option, part

if TYPE_CHECKING:
    from hierbmd.data.volume import LabelMap, Volume


@dataclass(frozen=True)
class Options:
    """Bones and regions on a CT: a label map, labelled CTs by registration, or a segmenter; checked, regions added."""

    ct: Path = option("the CT: DICOM folder, NIfTI, NRRD or MHA", positional=True)
    out: Path = option("folder for labels.nii.gz, scheme.json, labels.png, a file a region (total_hip.nii.gz, ...)")
    labels: Path | None = option("label map of the CT's bones", None)
    scheme: Path | None = option("JSON {name: id} of the label maps; TotalSegmentator v2 without", None)
    atlas: AtlasOptions = field(default_factory=AtlasOptions, metadata=part(names=ATLAS_NAMES))
    segmenter: SegmenterOptions = field(default_factory=SegmenterOptions, metadata=part(names=SEGMENTER_NAMES))
    region: RegionOptions = field(default_factory=RegionOptions, metadata=part(only=("below_trochanter_mm",)))
    resample_tilt: bool = option("resample a CT with gantry tilt instead of refusing it", False)


def main(argv: list[str]) -> int:
    """Run `hierbmd segment`; returns the exit status."""
    return run(parse("segment", Options, argv))


def run(options: Options) -> int:
    """Read, check and write; refusals are raised, a region that cannot be placed is said."""
    said = [options.labels is not None, bool(options.atlas.atlas), options.segmenter.segmenter is not None]
    if sum(said) != 1:
        raise BadConfig(
            "where the bones are is not said once",
            mend="give --labels, or --atlas CT,LABELS, or --segmenter totalsegmentator, or --segmenter FOLDER",
        )
    from hierbmd.anatomy.planes import labels_picture
    from hierbmd.anatomy.regions import REGION_IDS
    from hierbmd.anatomy.segmentation import checked_segmentation
    from hierbmd.anatomy.spine import SPINE_IDS
    from hierbmd.data.density import RESEARCH_USE_ONLY
    from hierbmd.io.atomic import write_json
    from hierbmd.io.ct import read_volume
    from hierbmd.io.image import write_labels, write_png

    region_ids = {**REGION_IDS, **{name: i for ids in SPINE_IDS.values() for name, i in ids.items()}}
    volume = read_volume(options.ct, resample_tilt=options.resample_tilt)
    labels, carried = _bones(volume, options)
    found = checked_segmentation(volume, labels, options.region)
    write_labels(options.out / "labels.nii.gz", found.labels)
    for kind, region in found.regions.items():
        write_labels(options.out / f"{kind}.nii.gz", region)
    write_json(options.out / "scheme.json", {**found.labels.scheme, **region_ids})
    write_json(options.out / "segmentation.json", {"research_use_only": RESEARCH_USE_ONLY, **found.findings, **carried})
    write_png(options.out / "labels.png", labels_picture(volume, found.labels))
    for name, bone in found.findings["bones"].items():
        if bone["metal_mm3"] > 0:
            print(f"{name}: metal, {bone['metal_mm3']:.0f} mm3, taken out", file=sys.stderr)
    for side in found.findings["metal_sides"]:
        print(f"{side} side: metal; its density is not to be used", file=sys.stderr)
    if found.findings["sides_unproved"]:
        print(f"side not proved: {', '.join(found.findings['sides_unproved'])}", file=sys.stderr)
    for name, femur in found.findings["femora"].items():
        placed = ", ".join(femur["regions"]).replace("_", " ") or "no region"
        why = f"; {femur['no_region']}" if "no_region" in femur else ""
        print(f"{name}: {placed} placed{why}", file=sys.stderr)
    if "no_region" in found.findings["spine"]:
        print(f"lumbar spine: no region; {found.findings['spine']['no_region']}", file=sys.stderr)
    return 0


def _bones(volume: Volume, options: Options) -> tuple[LabelMap, dict[str, Any]]:
    """The bones, given, found or carried, and what is to be said of where they come from."""
    if options.labels is not None:
        from hierbmd.io.labels import read_labels

        return read_labels(options.labels, scheme=options.scheme, onto=volume.grid), {}
    if options.segmenter.segmenter is not None:
        return _segmented(volume, options.segmenter, options.scheme), {"segmenter": options.segmenter.segmenter}
    from hierbmd.anatomy.atlas import carried_labels, read_atlases

    carried = carried_labels(volume, read_atlases(options.atlas, scheme=options.scheme), options.atlas)
    for name, one in carried.findings["bones"].items():
        ends = ", ends where the atlas's scan ends" if one["ends_at_atlas_scan"] else ""
        print(f"{name}: edge {one['edge_offset_mm']:.1f} mm from where HU fall{ends}", file=sys.stderr)
    return carried.labels, {"atlas": carried.findings}


def _segmented(volume: Volume, options: SegmenterOptions, scheme: Path | None) -> LabelMap:
    if options.segmenter == TOTALSEGMENTATOR:
        from hierbmd.anatomy.totalsegmentator import totalsegmentator_labels

        return totalsegmentator_labels(volume, options)
    from hierbmd.anatomy.monai_bundle import bundle_labels

    assert options.segmenter is not None
    folder = Path(options.segmenter)
    if not folder.is_dir():
        raise BadConfig("no such segmenter", where=folder, mend="totalsegmentator, or the folder of a MONAI bundle")
    return bundle_labels(volume, folder, options, scheme=scheme)
