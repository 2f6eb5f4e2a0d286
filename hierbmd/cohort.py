"""Many patients: from a manifest to a training set, one refusal row for whatever cannot be used, resumable.

Each row of the manifest is one task. Its images are written first, then `tasks/KEY.json` with what it gave, under a
lock; so a run that is killed at any point goes on where it was, and two runs at once give one result. The tables and
`dataset.json` are put together from the tasks at the end.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hierbmd.data.density import Material
from hierbmd.data.halves import HalfFrame
from hierbmd.data.manifest import Manifest, ManifestRow
from hierbmd.data.pairs import DatasetCard, PairRecord
from hierbmd.data.splits import SPLITS, SplitMember, check_leaks, split_subjects
from hierbmd.errors import BadManifest, HierbmdError, OutputUnwritable, ProcessDied, Uncalibrated
from hierbmd.geometry import Side, View
from hierbmd.io.dataset import pair_path, write_dataset
from hierbmd.io.manifest import read_manifest
from hierbmd.io.tables import write_table
from hierbmd.io.tasks import digest, fingerprint, only_one, read_result, write_result
from hierbmd.parallel import in_processes, on_cluster

if TYPE_CHECKING:
    from hierbmd.pairing.make import Registrar
    from hierbmd.pairing.row import RowOptions

VERSION = 1
REFUSAL_COLUMNS = ("subject", "side", "stage", "error_class", "reason", "line")
_TASKS = "tasks"
_TRUE = ("1", "true", "yes")

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class PrepareOptions:
    """How a manifest becomes a training set; no heavy imports here.

    `row` None means its defaults. `split_shares` are for train, val and test, given to the subjects for which the
    manifest names no split. `workers` 0 takes every CPU that this process may use. `scheduler` is the address of a
    Dask cluster whose workers see the same files; it replaces this machine's processes.
    """

    row: RowOptions | None = None
    split_shares: tuple[float, float, float] = (0.7, 0.1, 0.2)
    split_seed: int = 0
    workers: int = 1
    scheduler: str | None = None


@dataclass(frozen=True)
class Prepared:
    """What a run gave: how many pairs, how many refusals, and how many tasks were done before."""

    pairs: int
    refusals: int
    kept_tasks: int


@dataclass(frozen=True)
class _Task:
    """One manifest row, with what makes its names and its digest."""

    row: ManifestRow
    number: int
    made_from: str

    @property
    def key(self) -> str:
        """The stem of the task's files, and of its pairs': subject, and which of its rows if it has several."""
        return self.row.subject if self.number == 1 else f"{self.row.subject}+{self.number}"


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
    splits = _splits(manifest, options)
    _require_ours(out)
    tasks = _tasks(manifest, options)
    results: dict[str, Any] = {}
    for task in tasks:
        stored = _stored(out, task)
        if stored is not None:
            results[task.key] = stored
    kept = len(results)
    todo = [task for task in tasks if task.key not in results]
    for task, result in _run(todo, out, options, registrar):
        results[task.key] = result
        progress(len(results), len(tasks))
    return _assemble(out, tasks, results, splits, options, kept)


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


def _tasks(manifest: Manifest, options: PrepareOptions) -> list[_Task]:
    """A task for each row; its digest covers its files, its own cells and every option that its images depend on."""
    scheme = fingerprint([None if options.row is None else options.row.scheme])
    root = manifest.path.resolve().parent
    counts: dict[str, int] = {}
    tasks = []
    for row in manifest.rows:
        counts[row.subject] = counts.get(row.subject, 0) + 1
        paths = [row.ct, row.labels, row.radiograph, row.calibration]
        cells = [row.subject, row.view, row.side, row.pose]
        cells += [None if path is None else str(path.relative_to(root)) for path in paths]
        files = fingerprint(paths)
        tasks.append(_Task(row, counts[row.subject], digest([VERSION, cells, files, scheme, repr(options.row)])))
    return tasks


def _result_path(out: Path, task: _Task) -> Path:
    return out / _TASKS / f"{task.key}.json"


def _stored(out: Path, task: _Task) -> Any | None:
    """The task's result, if it is done and every image that it names is there."""
    result = read_result(_result_path(out, task), task.made_from)
    if result is None or not all(pair_path(out, pair["pair_id"]).is_file() for pair in result["pairs"]):
        return None
    return result


def _run(
    tasks: Sequence[_Task], out: Path, options: PrepareOptions, registrar: Registrar | None
) -> Iterator[tuple[_Task, Any]]:
    """Each task with its result, in the order in which they are done."""
    do = partial(_do, options=options, registrar=registrar)
    if options.scheduler is not None:
        done = on_cluster(partial(do, out=out.resolve()), tasks, address=options.scheduler)
    else:
        done = in_processes(partial(do, out=out), tasks, workers=options.workers)
    for task, result in done:
        yield task, _refused(task, result) if isinstance(result, ProcessDied) else result


def _refused(task: _Task, error: HierbmdError) -> dict[str, Any]:
    """The result of a task that gave no pair."""
    side = "" if task.row.side is None else task.row.side.value
    stage = "calibrate" if isinstance(error, Uncalibrated) else "read"
    refusal = {"side": side, "stage": stage, "error_class": type(error).__name__, "reason": str(error)}
    return {"pairs": [], "refusals": [refusal]}


def _do(task: _Task, *, out: Path, options: PrepareOptions, registrar: Registrar | None) -> Any:
    """Do one task unless another process did it meanwhile; its images are written before its result."""
    from hierbmd.pairing.row import make_row

    path = _result_path(out, task)
    with only_one(path):
        stored = _stored(out, task)
        if stored is not None:
            return stored
        try:
            result = make_row(task.row, task.key, out, options.row, registrar=registrar)
        except OutputUnwritable:
            raise
        except HierbmdError as error:
            result = _refused(task, error)
        write_result(path, task.made_from, result)
    return result


def _assemble(
    out: Path,
    tasks: Sequence[_Task],
    results: Mapping[str, Any],
    splits: Mapping[str, str],
    options: PrepareOptions,
    kept: int,
) -> Prepared:
    """Write the tables from the tasks' results, in the manifest's order, the data set's card last."""
    from hierbmd.pairing.files import QC_COLUMNS

    pairs = [(task, pair) for task in tasks for pair in results[task.key]["pairs"]]
    records = [_with_row(pair["record"], task.row, splits) for task, pair in pairs]
    refusals = [
        {"subject": task.row.subject, "line": task.row.line, **refusal}
        for task in tasks
        for refusal in results[task.key]["refusals"]
    ]
    leaked = _leaks(records)
    refusals += leaked.values()
    records = [record for record in records if record.pair_id not in leaked]
    quality = [{**pair["quality"], "pair_id": pair["pair_id"], "subject": task.row.subject} for task, pair in pairs]
    write_table(out / "refusals.csv", REFUSAL_COLUMNS, refusals)
    write_table(out / "qc.csv", QC_COLUMNS, quality)
    _remove_stale(out, {pair["pair_id"] for _, pair in pairs})
    if not records:
        first = refusals[0]["reason"] if refusals else "no row"
        raise BadManifest("not one pair could be made", where=out / "refusals.csv", mend=f"the first: {first}")
    simulated = any(task.row.extra.get("simulated", "").lower() in _TRUE for task in tasks)
    materials = {pair["material"] for _, pair in pairs}
    write_dataset(out, _card(records, options, materials, simulated=simulated), records)
    return Prepared(len(records), len(refusals), kept)


def _with_row(stored: Mapping[str, Any], row: ManifestRow, splits: Mapping[str, str]) -> PairRecord:
    """A stored record with what the manifest says of the patient now; the manifest's BMD wins, with its source."""
    record = PairRecord(**{**stored, "side": Side(stored["side"]), "view": View(stored["view"])})
    given = row.bmd_g_cm2 is not None
    return dataclasses.replace(
        record,
        bmd_g_cm2=row.bmd_g_cm2 if row.bmd_g_cm2 is not None else record.bmd_qct_g_cm2,
        bmd_source=(row.bmd_source or "manifest") if given else "qct",
        radiograph=row.radiograph.name,
        split=splits[row.subject],
        age=row.age,
        sex=row.sex,
        height_cm=row.height_cm,
        weight_kg=row.weight_kg,
        extra=dict(row.extra),
    )


def _leaks(records: Sequence[PairRecord]) -> dict[str, dict[str, Any]]:
    """A refusal for every pair whose radiograph is also another subject's, pixel by pixel; all of them are listed."""
    sharing: dict[str, list[PairRecord]] = {}
    for record in records:
        sharing.setdefault(record.radiograph_sha256, []).append(record)
    leaked: dict[str, dict[str, Any]] = {}
    for group in sharing.values():
        if len({record.subject for record in group}) > 1:
            names = " and ".join(record.pair_id for record in group)
            what = {"stage": "leaks", "error_class": "SplitLeak"}
            what["reason"] = f"the same pixels under two patients: {names} (keep one of them)"
            leaked |= {r.pair_id: {"subject": r.subject, "side": r.side.value, **what} for r in group}
    return leaked


def _card(
    records: Sequence[PairRecord], options: PrepareOptions, materials: set[str], *, simulated: bool
) -> DatasetCard:
    if len(materials) > 1:
        raise Uncalibrated("HA and K2HPO4 in one data set", mend="scales are never mixed: prepare them apart")

    def common(values: set[Any]) -> Any:
        return next(iter(values)) if len(values) == 1 else None

    return DatasetCard(
        frame=HalfFrame() if options.row is None else options.row.pairing.frame,
        material=Material(materials.pop()),
        sdd_mm=common({record.sdd_mm for record in records}),
        source_isocentre_mm=common({record.source_isocentre_mm for record in records}),
        view=common({record.view for record in records}),
        simulated=simulated,
    )


def _remove_stale(out: Path, pair_ids: set[str]) -> None:
    """Images of pairs that an earlier run made and this one refused, or that left the manifest."""
    for folder, suffix in (("pairs", ".npz"), ("qc", ".png")):
        for path in (out / folder).glob(f"*{suffix}"):
            if path.stem not in pair_ids:
                path.unlink(missing_ok=True)
