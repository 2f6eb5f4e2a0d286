"""Which baselines there are, and what the module of one has: options, `fit`, `load` and what a study trains."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from hierbmd.data.card import BASELINE, ModelCard, require_matching
from hierbmd.errors import BadConfig, WrongWeights
from hierbmd.io.weights import read_card

if TYPE_CHECKING:
    from hierbmd.predict import Predictor

BASELINES: dict[str, str] = {
    "deep_radiomics": "hierbmd.baselines.radiomics",
    "foundation": "hierbmd.baselines.foundation",
    "lumbar_femur": "hierbmd.baselines.lumbar",
}
"""A system's name, as in results and on its card, and its module. The module is light: it imports when it works."""

Progress = Callable[[str], AbstractContextManager[Callable[[int, int], None]]]
"""`with progress("what") as report: report(done, total)`, as the command line shows it."""


@contextmanager
def silent(what: str) -> Iterator[Callable[[int, int], None]]:
    """The progress that nobody sees."""
    yield lambda done, total: None


@dataclass(frozen=True)
class StudyPart:
    """What a study trains a baseline on: `runs` are the hierarchy's, by stage, on the training patients of `data`."""

    data: Path
    runs: Mapping[str, Path] = field(default_factory=dict)
    seed: int = 0
    quick: bool = False


class Baseline(Protocol):
    """The module of a baseline."""

    Options: type

    def fit(self, data: Path, out: Path, options: Any, *, progress: Progress = silent) -> ModelCard:
        """Train on the train split of a data set into `out`, or go on there; weights and card last, atomically.

        A finished run is left as it is. The card's stage is BASELINE, its `baseline` the system's name.
        """

    def require(self, region: str) -> None:
        """What a study asks before it begins: raise MissingExtra, with the pip command, or BadConfig.

        The latter when the system reads no radiographs of this region.
        """

    def load(self, folder: Path) -> Predictor:
        """The trained model in a folder."""

    def study_options(self, part: StudyPart) -> Any:
        """The options that a study trains it with."""


def baseline(name: str) -> Baseline:
    """The module of a baseline; BadConfig names the nearest of those that there are."""
    if name not in BASELINES:
        close = difflib.get_close_matches(name, BASELINES, n=1)
        known = f"did you mean {close[0]}?" if close else f"known: {', '.join(BASELINES)}"
        raise BadConfig("no such baseline", where=name, mend=known)
    return cast(Baseline, importlib.import_module(BASELINES[name]))


def load(folder: str | Path) -> Predictor:
    """The baseline in a folder, by what its card says it is; UntrustedWeights and WrongWeights as a stage's."""
    card = read_card(folder)
    require_matching(card, where=folder, stage=BASELINE)
    if card.baseline not in BASELINES:
        raise WrongWeights(
            f"weights of baseline {card.baseline!r}", where=folder, mend=f"known here: {', '.join(BASELINES)}"
        )
    return baseline(card.baseline).load(Path(folder))
