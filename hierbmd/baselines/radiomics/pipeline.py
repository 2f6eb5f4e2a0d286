"""What learns from the features: imputation, scaling, LASSO selection and an MLP, as one scikit-learn pipeline."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.compose import TransformedTargetRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_selection import SelectorMixin
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LassoCV
from sklearn.model_selection import GroupKFold
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import check_is_fitted

from hierbmd.baselines.radiomics.options import Options
from hierbmd.data.density import REFERENCES
from hierbmd.evaluation.summary import has_condition

Matrix = NDArray[np.float64]

_LASSO_FOLDS = 5
_PENALTIES = 30
_LEAST_PENALTY = 1e-2
"""The smallest penalty over the largest of the LASSO's path; less explains noise when columns outnumber rows."""


@dataclass(frozen=True)
class Condition:
    """What is screened for: a condition of `hierbmd.evaluation.summary`, by the T-score on a named reference."""

    name: str
    reference: str

    def of(self, bmd_g_cm2: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Who (n,) has it, by the reference BMD."""
        return has_condition(self.name, bmd_g_cm2, REFERENCES[self.reference])  # type: ignore[index]


def condition_of(options: Options) -> Condition:
    """The condition that the options name."""
    return Condition(options.condition, options.reference)


class LassoSelection(SelectorMixin, BaseEstimator):
    """Keeps the columns to which the LASSO gives a weight, its penalty chosen by folds over patients.

    Where the chosen penalty leaves none, the first column to come in as the penalty falls is kept, which is the one
    most correlated with the target; so there is a model wherever a column varies at all.
    """

    def __init__(self, condition: Condition | None = None) -> None:
        self.condition = condition

    def fit(self, X: Matrix, y: NDArray[np.float64], groups: Sequence[str] | None = None) -> LassoSelection:
        """Select on standardised columns X (n, p) for BMD y (n,), or for the condition by it; `groups` are patients."""
        target = y if self.condition is None else self.condition.of(y).astype(np.float64)
        patients = np.arange(len(y)) if groups is None else np.asarray(groups)
        self.weights_ = np.zeros(X.shape[1])
        n_patients = len(np.unique(patients))
        if n_patients > 1 and X.shape[1] and np.ptp(target) > 0:
            folds = GroupKFold(min(_LASSO_FOLDS, n_patients)).split(X, groups=patients)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                path = LassoCV(alphas=_penalties(X, target), cv=list(folds), max_iter=2000, tol=1e-3)
                self.weights_ = np.asarray(path.fit(X, target).coef_)
        if X.shape[1] and not self.weights_.any():
            alone = np.abs((target - target.mean()) @ (X - X.mean(axis=0)))
            self.weights_[int(np.argmax(alone))] = float(alone.max() > 0)
        self.n_features_in_ = X.shape[1]
        return self

    def _get_support_mask(self) -> NDArray[np.bool_]:
        check_is_fitted(self, "weights_")
        return np.asarray(self.weights_ != 0)


def _penalties(X: Matrix, target: NDArray[np.float64]) -> NDArray[np.float64]:
    """From the penalty at which the first column comes in, downwards."""
    largest = float(np.abs((target - target.mean()) @ (X - X.mean(axis=0))).max()) / len(X)
    return np.geomspace(max(largest, 1e-12), max(largest, 1e-12) * _LEAST_PENALTY, _PENALTIES)


class BmdAndRisk(BaseEstimator):
    """Two small MLPs on the same columns: one for the BMD, one for the probability of the condition by it.

    `predict` gives (n, 2): BMD in g/cm2, and the probability, NaN where the training patients were of one class. With
    no column the BMD is the mean and the probability the share.
    """

    def __init__(self, condition: Condition, hidden: int, weight_decay: float, seed: int) -> None:
        self.condition, self.hidden, self.weight_decay, self.seed = condition, hidden, weight_decay, seed

    def fit(self, X: Matrix, y: NDArray[np.float64]) -> BmdAndRisk:
        """Learn from the selected columns X (n, p) and the BMD y (n,)."""
        positive = self.condition.of(y)
        self.mean_, self.share_ = float(y.mean()), float(positive.mean())
        self.bmd_, self.risk_ = None, None
        if X.shape[1] == 0:
            return self
        settings: dict[str, Any] = {
            **{"hidden_layer_sizes": (self.hidden,), "alpha": self.weight_decay, "random_state": self.seed},
            **{"solver": "lbfgs", "max_iter": 300},
        }
        with warnings.catch_warnings():
            # Stopped at max_iter: one more means of keeping a small network from learning its patients by heart.
            warnings.simplefilter("ignore", ConvergenceWarning)
            network = TransformedTargetRegressor(MLPRegressor(**settings), transformer=StandardScaler())
            self.bmd_ = network.fit(X, y)
            if 0 < self.share_ < 1:
                self.risk_ = MLPClassifier(**settings).fit(X, positive)
        return self

    def predict(self, X: Matrix) -> Matrix:
        """BMD and probability, (n, 2), of selected columns (n, p)."""
        bmd = np.full(len(X), self.mean_) if self.bmd_ is None else self.bmd_.predict(X)
        if self.risk_ is not None:
            risk = self.risk_.predict_proba(X)[:, 1]
        else:
            risk = np.full(len(X), self.share_ if 0 < self.share_ < 1 else np.nan)
        return np.column_stack([np.maximum(bmd, 0.0), risk])


def make_pipeline(options: Options) -> Pipeline:
    """The pipeline of one model, not fitted: all that is learnt from the data is in it."""
    condition = condition_of(options)
    select = LassoSelection(condition if options.select_by == "condition" else None)
    heads = BmdAndRisk(condition, options.hidden, options.weight_decay, options.seed)
    impute = SimpleImputer(strategy="median", keep_empty_features=True)
    return Pipeline([("impute", impute), ("scale", StandardScaler()), ("select", select), ("read", heads)])


def fitted(options: Options, X: Matrix, bmd_g_cm2: NDArray[np.float64], subjects: Sequence[str]) -> Pipeline:
    """The pipeline fitted on features X (n, p), NaN where not known, and BMD (n,) of the training patients alone."""
    return make_pipeline(options).fit(X, bmd_g_cm2, select__groups=tuple(subjects))
