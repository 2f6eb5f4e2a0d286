"""From the results of a cohort's tasks to its tables: the pairs that stand, the refusals, what a person is shown."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hierbmd.data.density import Material
from hierbmd.data.manifest import ManifestRow
from hierbmd.data.pairs import DatasetCard, PairRecord
from hierbmd.data.site import further_names, site_of
from hierbmd.errors import Uncalibrated
from hierbmd.geometry import Side, View
from hierbmd.io.decisions import Decision, decision_key
from hierbmd.pairing.options import PairingOptions
from hierbmd.report.quality import QualityEntry
from hierbmd.report.review import Entry

_TRUE = ("1", "true", "yes")

Row = dict[str, Any]


@dataclass(frozen=True)
class Task:
    """One manifest row, with what makes its names and its digest."""

    row: ManifestRow
    number: int
    made_from: str

    @property
    def key(self) -> str:
        """The stem of the task's files, and of its pairs': subject, and which of its rows if it has several."""
        return self.row.subject if self.number == 1 else f"{self.row.subject}+{self.number}"


def review_pictures(review: Mapping[str, Any]) -> list[str]:
    """The pictures that a stored review names, relative to the data set's folder."""
    return [bone["picture"] for bone in review["bones"].values() if bone["picture"]]


def quality_pictures(result: Mapping[str, Any]) -> list[str]:
    """The pictures that a stored result names for the quality page, relative to the data set's folder."""
    quality = result.get("quality")
    return [] if quality is None else [*quality["pictures"].values(), *(side["picture"] for side in quality["sides"])]


@dataclass(frozen=True)
class Cohort:
    """Every task with its result, in the manifest's order, the subjects' splits, and a person's decisions by key."""

    tasks: Sequence[Task]
    results: Mapping[str, Any]
    splits: Mapping[str, str]
    decisions: Mapping[str, Decision]

    @property
    def simulated(self) -> bool:
        """Whether any row says that it is simulated."""
        return any(task.row.extra.get("simulated", "").lower() in _TRUE for task in self.tasks)

    def pairs(self) -> Iterator[tuple[Task, Any]]:
        """Every pair that could be made, with its task."""
        return ((task, pair) for task in self.tasks for pair in self.results[task.key]["pairs"])

    def reviews(self) -> Iterator[tuple[Task, Any]]:
        """Every side that was registered, with its task."""
        return ((task, review) for task in self.tasks for review in self.results[task.key]["reviews"])

    def records(self) -> list[PairRecord]:
        """The pairs that stand: not rejected, whose radiograph is no other subject's; synthetic ones for training."""
        lost = self._rejected().keys() | self._leaked().keys()
        lost |= {r.pair_id for r in self._made().values() if r.synthetic and r.split != "train"}
        return [record for record in self._made().values() if record.pair_id not in lost]

    def refusals(self) -> list[Row]:
        """A row for whatever is no pair: what the steps refused, then leaks, then what a person rejected."""
        by_step = [
            {"subject": task.row.subject, "line": task.row.line, **refusal}
            for task in self.tasks
            for refusal in self.results[task.key]["refusals"]
        ]
        leaked = self._leaked()
        rejected = [row for pair_id, row in self._rejected().items() if pair_id not in leaked]
        return [*by_step, *leaked.values(), *rejected]

    def quality(self) -> list[Row]:
        """The rows of qc.csv."""
        return [
            {**pair["quality"], "pair_id": pair["pair_id"], "subject": task.row.subject} for task, pair in self.pairs()
        ]

    def entries(self, out: Path, region: str) -> list[Entry]:
        """What the review page shows: every side that was registered, whether it became a pair or not."""
        made, leaked = self._made(), self._leaked()
        entries = []
        for task, review in self.reviews():
            pair_id, side = review["pair_id"], review["side"]
            why = [
                r["reason"] for r in self.results[task.key]["refusals"] if r["side"] == side and r["stage"] != "jitter"
            ]
            why += ["the same pixels under two patients"] if pair_id in leaked else []
            key = decision_key(task.made_from, side)
            pictures = {bone: out / one["picture"] for bone, one in review["bones"].items() if one["picture"]}
            entries.append(
                Entry(
                    key=key,
                    title=site_of(region).called(Side(side)),
                    source=f"line {task.row.line} of the manifest",
                    bones=review["bones"],
                    pictures=pictures,
                    whose=pair_id,
                    refused="; ".join(why) or ("" if pair_id in made else "no pair came of it"),
                    decision=self.decisions.get(key),
                )
            )
        return entries

    def quality_entries(self, out: Path) -> list[QualityEntry]:
        """What the quality page shows: every row, whatever came of it."""
        entries = []
        for task in self.tasks:
            result = self.results[task.key]
            own = [pair for pair in result["pairs"] if not pair["record"]["synthetic"]]
            entries.append(
                QualityEntry(
                    source=f"line {task.row.line} of the manifest",
                    refused=[
                        _without_names(refusal["reason"], task.row)
                        for refusal in result["refusals"]
                        if refusal["stage"] != "jitter"
                    ],
                    quality=result.get("quality"),
                    folder=out,
                    pairs={pair["record"]["side"]: _picture(out, pair) for pair in own},
                )
            )
        return entries

    def card(self, records: Sequence[PairRecord], options: PairingOptions) -> DatasetCard:
        """What holds for all pairs; Uncalibrated where HA and K2HPO4 meet."""
        materials = {pair["material"] for _, pair in self.pairs()}
        if len(materials) > 1:
            raise Uncalibrated("HA and K2HPO4 in one data set", mend="scales are never mixed: prepare them apart")

        regions, structures = further_names(options.structures, site_of(options.region.region))

        def common(values: set[Any]) -> Any:
            return next(iter(values)) if len(values) == 1 else None

        return DatasetCard(
            frame=options.frame,
            region=options.region.region,
            bones=site_of(options.region.region).bones,
            regions=regions,
            structures=structures,
            material=Material(materials.pop()),
            sdd_mm=common({record.sdd_mm for record in records}),
            source_isocentre_mm=common({record.source_isocentre_mm for record in records}),
            view=common({record.view for record in records}),
            simulated=self.simulated,
        )

    def _made(self) -> dict[str, PairRecord]:
        return {pair["pair_id"]: _with_row(pair["record"], task.row, self.splits) for task, pair in self.pairs()}

    def _rejected(self) -> dict[str, Row]:
        """A refusal for every pair that a person rejected. Accepting adds nothing to the pairs."""
        rejected = {}
        for task, pair in self.pairs():
            side = pair["record"]["side"]
            decision = self.decisions.get(decision_key(task.made_from, side))
            if decision is not None and not decision.accepted:
                reason = "rejected on the review page" + (f": {decision.reason}" if decision.reason else "")
                what = {"stage": "review", "error_class": "Rejected", "reason": reason}
                rejected[pair["pair_id"]] = {
                    "subject": task.row.subject,
                    "line": task.row.line,
                    "side": str(side),
                    **what,
                }
        return rejected

    def _leaked(self) -> dict[str, Row]:
        """A refusal for every pair whose radiograph is also another subject's, pixel by pixel; all are listed."""
        sharing: dict[str, list[PairRecord]] = {}
        for record in self._made().values():
            sharing.setdefault(record.radiograph_sha256, []).append(record)
        leaked: dict[str, Row] = {}
        for group in sharing.values():
            if len({record.subject for record in group}) > 1:
                names = " and ".join(record.pair_id for record in group)
                what = {"stage": "leaks", "error_class": "SplitLeak"}
                what["reason"] = f"the same pixels under two patients: {names} (keep one of them)"
                leaked |= {r.pair_id: {"subject": r.subject, "side": r.side.value, **what} for r in group}
        return leaked


def _without_names(reason: str, row: ManifestRow) -> str:
    """A refusal's reason for a page that names no patient: files go by their columns."""
    files = {"ct": row.ct, "labels": row.labels, "radiograph": row.radiograph, "calibration": row.calibration}
    for column, path in files.items():
        if path is not None:
            reason = reason.replace(str(path), f"the row's {column}")
    return reason.replace(row.subject, "the patient")


def _picture(out: Path, pair: Mapping[str, Any]) -> Path | None:
    """A pair's picture, None where the radiograph carries burned-in annotation."""
    return None if pair["record"]["burned_in_annotation"] else out / "qc" / f"{pair['pair_id']}.png"


def _with_row(stored: Mapping[str, Any], row: ManifestRow, splits: Mapping[str, str]) -> PairRecord:
    """A stored record with what the manifest says of the patient now; the manifest's BMD wins, with its source."""
    record = PairRecord(**{**stored, "side": Side(stored["side"]), "view": View(stored["view"])})
    given = row.bmd_g_cm2 is not None
    return dataclasses.replace(
        record,
        bmd_g_cm2=row.bmd_g_cm2 if row.bmd_g_cm2 is not None else record.bmd_qct_g_cm2,
        bmd_source=(row.bmd_source or "manifest") if given else record.bmd_source,
        radiograph=row.radiograph_name,
        split=splits[row.subject],
        age=row.age,
        sex=row.sex,
        height_cm=row.height_cm,
        weight_kg=row.weight_kg,
        extra={**record.extra, **row.extra},
    )
