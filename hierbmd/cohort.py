"""Many patients: from a manifest to a training set, one refusal row for whatever cannot be used, resumable.

Each row of the manifest is one task. Its images are written first, then `tasks/KEY.json` with what it gave, under a
lock; so a run that is killed at any point goes on where it was, and two runs at once give one result. The tables and
`dataset.json` are put together from the tasks at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hierbmd.anatomy.options import AREA_VERSION
from hierbmd.data.manifest import Manifest
from hierbmd.data.pseudonyms import pseudonymised, without_names
from hierbmd.data.splits import SPLITS, SplitMember, check_leaks, split_subjects
from hierbmd.errors import BadConfig, BadManifest, HierbmdError, OutputUnwritable, ProcessDied, Uncalibrated
from hierbmd.io.dataset import pair_path, write_dataset
from hierbmd.io.decisions import decision_key, read_decisions
from hierbmd.io.manifest import read_manifest
from hierbmd.io.salt import made_salt
from hierbmd.io.tables import write_table
from hierbmd.io.tasks import digest, fingerprint, only_one, read_result, write_result
from hierbmd.options import option, part
from hierbmd.pairing.options import RowOptions
from hierbmd.pairing.tables import Cohort, Task, quality_pictures, review_pictures
from hierbmd.parallel import in_processes, on_cluster

if TYPE_CHECKING:
    from hierbmd.pairing.make import Registrar

VERSION = 4
REFUSAL_COLUMNS = ("subject", "side", "stage", "error_class", "reason", "line")
_TASKS = "tasks"

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class PrepareOptions:
    """How a manifest becomes a training set.

    `split_shares` are for train, val and test, given to the subjects for which the manifest names no split. `workers` 0
    takes every CPU that this process may use. A row that takes longer than `row_limit_s` or ends its process (a decoder
    that hangs or crashes) is refused and the rest goes on; None sets no limit, and one worker is then this process.
    `scheduler` is the address of a Dask cluster whose workers see the same files; it replaces this machine's processes,
    and their limits are the cluster's. `decisions` is the file that a person saved on the review page: a pair
    that they rejected is refused. With `salt` no file of the data set holds a subject, a file's name or an unknown
    column of the manifest. BadConfig when a number is out of range.
    """

    row: RowOptions = field(default_factory=RowOptions, metadata=part())
    split_shares: tuple[float, float, float] = option(
        "train,val,test: shares of the subjects that have no split", (0.7, 0.1, 0.2)
    )
    split_seed: int = option("seed of that split", 0)
    workers: int = option("processes; 0 takes every CPU. The files do not depend on it", 1)
    row_limit_s: float | None = option("a row that takes longer, in seconds, is refused", 3600.0)
    scheduler: str | None = option("address of a Dask cluster that sees the same files, in place of --workers", None)
    decisions: Path | None = option("what a person saved on OUT/review.html: rejected pairs are refused", None)
    salt: Path | None = option("file of a secret, made when missing: patients go by a salted hash in all of OUT", None)

    def __post_init__(self) -> None:
        if self.workers < 0:
            raise BadConfig("workers is below zero", where=f"workers {self.workers}", mend="0 takes every CPU")
        if self.row_limit_s is not None and self.row_limit_s <= 0:
            raise BadConfig("the limit is not above zero", where=f"row_limit_s {self.row_limit_s:g}", mend="null: none")


@dataclass(frozen=True)
class Prepared:
    """What a run gave: how many pairs, how many refusals, and how many tasks were done before.

    `stale_decisions` counts those of a person on what this run did not make: another cohort, or made from other files.
    """

    pairs: int
    refusals: int
    kept_tasks: int
    stale_decisions: int = 0


def prepare(
    manifest_path: str | Path,
    out: str | Path,
    options: PrepareOptions | None = None,
    *,
    registrar: Registrar | None = None,
    progress: Progress = lambda done, total: None,
) -> Prepared:
    """Make the training set of a manifest in `out`; what is there already and made from the same is kept.

    Rows that fail are in refusals.csv and the rest goes on. `registrar` replaces `register_bones`. Errors: BadManifest
    (the manifest itself, or not one pair came of it), SplitLeak, BadConfig, OutputUnwritable.
    """
    options = options or PrepareOptions()
    manifest, out = read_manifest(manifest_path), Path(out)
    if options.salt is not None:
        manifest = pseudonymised(manifest, made_salt(options.salt, not_in=out))
    decisions = {} if options.decisions is None else read_decisions(options.decisions)
    splits = _splits(manifest, options)
    _require_ours(out)
    tasks = _tasks(manifest, options, splits)
    results: dict[str, Any] = {}
    for task in tasks:
        stored = _stored(out, task)
        if stored is not None:
            results[task.key] = stored
    kept = len(results)
    todo = [task for task in tasks if task.key not in results]
    _require_one_measure(out, results, todo)
    for task, result in _run(todo, out, options, registrar):
        results[task.key] = result
        progress(len(results), len(tasks))
    return _assemble(out, Cohort(tasks, results, splits, decisions), options, kept)


def _require_one_measure(out: Path, results: Mapping[str, Any], todo: Sequence[Task]) -> None:
    """BadConfig before rows measured by another version would be joined by new ones; a finished set may be of one."""
    if todo and any(result.get("area_version", 1) != AREA_VERSION for result in results.values() if result["pairs"]):
        raise BadConfig(
            "half of it was measured by an earlier version, whose projected areas are wider",
            where=out,
            mend="prepare it anew into another --out",
        )


def _splits(manifest: Manifest, options: PrepareOptions) -> dict[str, str]:
    """Every subject's split: the manifest's own (SplitLeak when its rows differ), else a drawn one."""
    members = [SplitMember(f"line {row.line}", row.subject, row.split) for row in manifest.rows]
    check_leaks(members)
    given = {row.subject: row.split for row in manifest.rows}
    missing = [subject for subject, split in given.items() if not split]
    shares = dict(zip(SPLITS, options.split_shares, strict=True))
    return {**given, **split_subjects(missing, shares, seed=options.split_seed)}


def _require_ours(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise OutputUnwritable("the output is a file", where=out, mend="give a folder")
    if out.is_dir() and any(out.iterdir()) and not (out / _TASKS).is_dir():
        raise OutputUnwritable("the folder holds something else", where=out, mend="give an empty or new folder")


def _tasks(manifest: Manifest, options: PrepareOptions, splits: Mapping[str, str]) -> list[Task]:
    """A task for each row; its digest covers its files, its own cells and every option that its images depend on."""
    from hierbmd.pairing.labels import made_with, require_atlas

    if options.row.atlas.atlas and any(row.labels is None for row in manifest.rows):
        require_atlas(options.row)
    scheme = fingerprint([options.row.scheme])
    atlas = made_with(options.row)
    root = manifest.path.resolve().parent
    counts: dict[str, int] = {}
    tasks = []
    for row in manifest.rows:
        counts[row.subject] = counts.get(row.subject, 0) + 1
        paths = [row.ct, row.labels, row.radiograph, row.calibration]
        cells = [row.subject, row.view, row.side, row.pose, row.phantom, *([row.called] if row.called else [])]
        cells += [None if path is None else str(path.relative_to(root)) for path in paths]
        files = fingerprint(paths)
        split = splits[row.subject]
        # Synthetic pairs are made of training patients alone; nothing else of a row's images depends on the split.
        cells += ["jittered"] if options.row.jitter.pairs and split == "train" else []
        # A setting that came later counts only where it is on: what was prepared without it stays.
        settings = repr(options.row).replace(", structures=()", "")
        made_from = digest([VERSION, cells, files, scheme, *atlas, settings])
        tasks.append(Task(replace(row, split=split), counts[row.subject], made_from))
    return tasks


def _result_path(out: Path, task: Task) -> Path:
    return out / _TASKS / f"{task.key}.json"


def _stored(out: Path, task: Task) -> Any | None:
    """The task's result, if it is done and every image that it names is there."""
    result = read_result(_result_path(out, task), task.made_from)
    if result is None:
        return None
    images = [pair_path(out, pair["pair_id"]) for pair in result["pairs"]]
    images += [out / picture for review in result["reviews"] for picture in review_pictures(review)]
    images += [out / picture for picture in quality_pictures(result)]
    return result if all(image.is_file() for image in images) else None


def _run(
    tasks: Sequence[Task], out: Path, options: PrepareOptions, registrar: Registrar | None
) -> Iterator[tuple[Task, Any]]:
    """Each task with its result, in the order in which they are done."""
    do = partial(_do, options=options, registrar=registrar)
    if options.scheduler is not None:
        done = on_cluster(partial(do, out=out.resolve()), tasks, address=options.scheduler)
    else:
        done = in_processes(partial(do, out=out), tasks, workers=options.workers, limit_s=options.row_limit_s)
    for task, result in done:
        yield task, _refused(task, result) if isinstance(result, ProcessDied) else result


def _refused(task: Task, error: HierbmdError) -> dict[str, Any]:
    """The result of a task that gave no pair."""
    side = "" if task.row.side is None else task.row.side.value
    stage = "calibrate" if isinstance(error, Uncalibrated) else "read"
    reason = without_names(str(error), task.row)
    refusal = {"side": side, "stage": stage, "error_class": type(error).__name__, "reason": reason}
    return {"pairs": [], "refusals": [refusal], "reviews": []}


def _do(task: Task, *, out: Path, options: PrepareOptions, registrar: Registrar | None) -> Any:
    """Do one task unless another process did it meanwhile; its images are written before its result."""
    from hierbmd.pairing.row import make_row

    path = _result_path(out, task)
    with only_one(path):
        stored = _stored(out, task)
        if stored is not None:
            return stored
        try:
            result = make_row(task.row, task.key, out, options.row, registrar=registrar)
            for refusal in result["refusals"]:
                refusal["reason"] = without_names(refusal["reason"], task.row)
        except OutputUnwritable:
            raise
        except HierbmdError as error:
            result = _refused(task, error)
        result = {**result, "area_version": AREA_VERSION}
        write_result(path, task.made_from, result)
    return result


def _assemble(out: Path, cohort: Cohort, options: PrepareOptions, kept: int) -> Prepared:
    """Write the tables and the review page from the tasks' results, the data set's card last."""
    from hierbmd.pairing.files import qc_columns
    from hierbmd.report.quality import write_quality_page
    from hierbmd.report.review import write_review_page

    decisions = cohort.decisions
    records, refusals = cohort.records(), cohort.refusals()
    write_table(out / "refusals.csv", REFUSAL_COLUMNS, refusals)
    region = options.row.pairing.region.region
    write_table(out / "qc.csv", qc_columns(region), cohort.quality())
    _remove_stale(out, cohort)
    if any(cohort.reviews()):
        write_review_page(out, cohort.entries(out, region), simulated=cohort.simulated)
    write_quality_page(out, cohort.quality_entries(out), simulated=cohort.simulated)
    if not records:
        first = refusals[0]["reason"] if refusals else "no row"
        raise BadManifest("not one pair could be made", where=out / "refusals.csv", mend=f"the first: {first}")
    write_dataset(out, cohort.card(records, options.row.pairing), records)
    stale = set(decisions) - {decision_key(task.made_from, review["side"]) for task, review in cohort.reviews()}
    return Prepared(len(records), len(refusals), kept, stale_decisions=len(stale))


def _remove_stale(out: Path, cohort: Cohort) -> None:
    """Images of pairs that an earlier run made and this one refused, or that left the manifest."""
    pair_ids = {pair["pair_id"] for _, pair in cohort.pairs()}
    pictures = {Path(name).stem for _, review in cohort.reviews() for name in review_pictures(review)}
    quality = {Path(name).stem for result in cohort.results.values() for name in quality_pictures(result)}
    for folder, suffix, ours in (
        *(("pairs", ".npz", pair_ids), ("qc", ".png", pair_ids)),
        *(("review", ".png", pictures), ("quality", ".png", quality)),
    ):
        for path in (out / folder).glob(f"*{suffix}"):
            if path.stem not in ours:
                path.unlink(missing_ok=True)
