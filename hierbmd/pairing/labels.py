"""A row's label map: the manifest's own, or carried onto its CT from the atlas, once for each CT."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hierbmd.anatomy.atlas import carried_labels, read_atlases
from hierbmd.anatomy.atlas_elastix import import_elastix
from hierbmd.anatomy.planes import labels_picture
from hierbmd.data.manifest import ManifestRow
from hierbmd.data.volume import LabelMap, Volume
from hierbmd.errors import BadConfig, LabelsMismatch
from hierbmd.io.image import write_labels, write_png
from hierbmd.io.labels import read_labels
from hierbmd.io.tasks import digest, fingerprint, only_one, read_result, write_result
from hierbmd.pairing.options import RowOptions

FOLDER = "labels"


def row_labels(row: ManifestRow, volume: Volume, options: RowOptions, out: Path) -> tuple[LabelMap, dict[str, Any]]:
    """The labels of a row's CT on its grid, and where they come from, as plain values for qc.csv.

    A row without labels takes the atlas's, kept as `labels/KEY.nii.gz` with their findings in `KEY.json` and a picture;
    rows of one CT share them, and so does the next run. Errors: LabelsMismatch (no labels and no atlas, or an atlas
    that does not fit, with its reasons); MissingExtra without itk-elastix; the refusals of `read_labels`.
    """
    if row.labels is not None:
        return read_labels(row.labels, scheme=options.scheme, onto=volume.grid), {"labels": "given"}
    if not options.atlas.atlas:
        raise LabelsMismatch("no label map for this CT", mend="give one in the labels column, or --atlas CT,LABELS")
    made_from = digest([made_with(options), fingerprint([row.ct]), options.resample_tilt])
    labels, found = (out / FOLDER / f"{made_from}{suffix}" for suffix in (".nii.gz", ".json"))
    with only_one(found):
        stored = read_result(found, made_from)
        if stored is None or not ("refused" in stored or labels.is_file()):
            stored = _carry(volume, options, labels)
            write_result(found, made_from, stored)
    if "refused" in stored:
        raise LabelsMismatch(stored["refused"], mend=stored["mend"])
    offset_mm = max(one["edge_offset_mm"] for one in stored["bones"].values())
    return read_labels(labels, onto=volume.grid), {"labels": "atlas", "labels_edge_offset_mm": offset_mm}


def require_atlas(options: RowOptions) -> None:
    """Raise MissingExtra without itk-elastix, BadConfig when a file of the atlas is not there: before any work."""
    import_elastix()
    for path in map(Path, options.atlas.atlas):
        if not path.exists():
            raise BadConfig("no such file or folder of the atlas", where=path, mend="--atlas CT,LABELS")


def made_with(options: RowOptions) -> list[Any]:
    """What labels by atlas depend on besides the CT: the atlas's files and options; empty without one."""
    atlas = options.atlas
    return [repr(atlas), fingerprint([*map(Path, atlas.atlas), options.scheme])] if atlas.atlas else []


def _carry(volume: Volume, options: RowOptions, path: Path) -> dict[str, Any]:
    """Carry the atlas's bones and write them with a picture; what is kept of it. A fit that is too bad is kept too."""
    atlases = read_atlases(options.atlas, scheme=options.scheme)
    try:
        carried = carried_labels(volume, atlases, options.atlas)
    except LabelsMismatch as error:
        return {"refused": error.what, "mend": error.mend}
    write_labels(path, carried.labels)
    write_png(path.with_suffix("").with_suffix(".png"), labels_picture(volume, carried.labels))
    return carried.findings
