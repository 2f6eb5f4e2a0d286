"""Splits by patient, and the check that nothing of a patient is on both sides of one."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hierbmd.errors import BadConfig, SplitLeak

SPLITS = ("train", "val", "test")
"""The names a split may have: learnt from, tuned on, and never seen before the end."""

_MOST_NAMED = 6


@dataclass(frozen=True)
class SplitMember:
    """One image in a split: a name to show, whose it is, and the hash of its pixels where they are at hand."""

    name: str
    subject: str
    split: str
    pixels_sha256: str = ""


def split_subjects(
    subjects: Iterable[str],
    fractions: Mapping[str, float],
    *,
    seed: int,
    strata: Mapping[str, Any] | None = None,
) -> dict[str, str]:
    """A split for every subject, in shares as in `fractions` (they sum to 1), as near as whole patients allow.

    `strata` gives each subject a class (sex, centre, a bin of `quantile_strata`), and the shares hold in every class.
    The answer depends on the set of subjects and the seed only, not on their order. BadConfig when the fractions are
    no shares.
    """
    shares = np.array(list(fractions.values()), dtype=np.float64)
    if not len(shares) or np.any(shares < 0) or not np.isclose(shares.sum(), 1.0):
        raise BadConfig(f"split fractions {dict(fractions)} do not sum to 1", mend="give shares such as 0.7, 0.1, 0.2")
    names = sorted(set(subjects))
    shuffled = [names[i] for i in np.random.default_rng(seed).permutation(len(names))]
    if strata is not None:
        shuffled.sort(key=lambda subject: str(strata[subject]))
    # Whoever is furthest behind its share takes the next patient; strata stand in a row, so each is shared out alike.
    counts = np.zeros(len(shares))
    answer = {}
    for n, subject in enumerate(shuffled, start=1):
        behind = int(np.argmax(np.where(shares > 0, shares * n - counts, -np.inf)))
        counts[behind] += 1
        answer[subject] = list(fractions)[behind]
    return answer


@dataclass(frozen=True)
class Fold:
    """One fold of a repeated k-fold: which repeat and fold it is, whom it trains on and whom it holds out."""

    repeat: int
    fold: int
    train: tuple[str, ...]
    held_out: tuple[str, ...]


def grouped_folds(
    subjects: Iterable[str], folds: int, *, repeats: int = 1, seed: int = 0, strata: Mapping[str, Any] | None = None
) -> tuple[Fold, ...]:
    """Repeated k-fold over patients: in each repeat, every patient is held out once, with all sides and poses.

    `strata` gives each subject a class, spread evenly over the folds (scikit-learn's StratifiedKFold over patients; a
    patient is one row here, so no group can be torn). The answer depends on the set of subjects and the seed only.
    BadConfig when there are fewer patients than folds, or fewer than two folds.
    """
    from sklearn.model_selection import KFold, StratifiedKFold

    names = sorted(set(subjects))
    if not 2 <= folds <= len(names) or repeats < 1:
        raise BadConfig(
            f"{folds} folds, {repeats} times, of {len(names)} patients", mend="2 folds or more, a patient in each"
        )
    answer = []
    for repeat in range(repeats):
        state = int(np.random.default_rng([seed, repeat]).integers(2**31))
        if strata is None:
            parts = KFold(folds, shuffle=True, random_state=state).split(names)
        else:
            classes = [str(strata[name]) for name in names]
            parts = StratifiedKFold(folds, shuffle=True, random_state=state).split(names, classes)
        for fold, (train, held_out) in enumerate(parts):
            chosen = [tuple(names[i] for i in part) for part in (train, held_out)]
            answer.append(Fold(repeat, fold, chosen[0], chosen[1]))
    return tuple(answer)


def quantile_strata(values: Mapping[str, float], *, bins: int = 4) -> dict[str, int]:
    """Each subject's quantile bin (0 to bins - 1) of a number, for `split_subjects`."""
    edges = np.quantile(list(values.values()), np.linspace(0, 1, bins + 1)[1:-1])
    return {subject: int(np.searchsorted(edges, value, side="right")) for subject, value in values.items()}


def fold_strata(values: Mapping[str, float], folds: int) -> dict[str, int]:
    """Quantile bins of a number for `grouped_folds`, of two patients a fold or more, so that every fold has of each."""
    return quantile_strata(values, bins=max(1, min(4, len(values) // max(2 * folds, 1))))


def pixels_sha256(pixels: NDArray[Any]) -> str:
    """A hash of an image's values and shape, the same whatever file format carried them."""
    stored = np.ascontiguousarray(pixels, dtype="<f4")
    return hashlib.sha256(str(stored.shape).encode() + stored.tobytes()).hexdigest()


def same_pixels(members: Sequence[SplitMember]) -> list[tuple[SplitMember, SplitMember]]:
    """Pairs of members of different subjects whose pixels are the same; members without a hash are left out."""
    first: dict[str, SplitMember] = {}
    pairs = []
    for member in members:
        if member.pixels_sha256:
            earlier = first.setdefault(member.pixels_sha256, member)
            if earlier.subject != member.subject:
                pairs.append((earlier, member))
    return pairs


def check_leaks(members: Sequence[SplitMember]) -> None:
    """Raise SplitLeak, both sides listed, when a subject is in two splits or two subjects share an image's pixels."""
    seen: dict[str, SplitMember] = {}
    leaks = []
    for member in members:
        earlier = seen.setdefault(member.subject, member)
        if earlier.split != member.split:
            leaks.append((earlier, member))
    _refuse("one patient in two splits", leaks, mend="give each patient one split")
    _refuse("the same pixels under two patients", same_pixels(members), mend="keep one of them")


def _refuse(what: str, leaks: list[tuple[SplitMember, SplitMember]], *, mend: str) -> None:
    if not leaks:
        return
    named = [f"{a.name} ({a.split or 'no split'}) and {b.name} ({b.split or 'no split'})" for a, b in leaks]
    more = f" and {len(named) - _MOST_NAMED} more" if len(named) > _MOST_NAMED else ""
    raise SplitLeak(what, where="; ".join(named[:_MOST_NAMED]) + more, mend=mend)
