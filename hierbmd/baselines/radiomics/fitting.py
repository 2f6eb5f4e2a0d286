"""One run of deep-radiomics: features, seven models by nested folds, their figures, and the one that reads."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from hierbmd.baselines.radiomics.features import (
    FeatureTable,
    Recipe,
    columns_of,
    encoder_of,
    feature_table,
)
from hierbmd.baselines.radiomics.nested import HeldOut, Rows, dxa_threshold, held_out
from hierbmd.baselines.radiomics.options import NAME, ModelName, Options
from hierbmd.baselines.radiomics.page import write_report
from hierbmd.baselines.radiomics.pipeline import fitted
from hierbmd.baselines.radiomics.predictor import FEATURES_FOLDER
from hierbmd.baselines.radiomics.results import (
    PLACES,
    READ_FILE,
    RESULTS_FILE,
    TABLE_FILE,
    Read,
    figures,
    paired,
    predictions,
)
from hierbmd.baselines.radiomics.stored import StoredModel
from hierbmd.baselines.radiomics.texture import require_mirp
from hierbmd.baselines.registry import Progress, silent
from hierbmd.data.card import BASELINE, ModelCard, Readout, of_data, require_matching
from hierbmd.data.density import REFERENCES, RESEARCH_USE_ONLY, reference_for
from hierbmd.data.splits import SplitMember, check_leaks
from hierbmd.errors import BadConfig, BadManifest
from hierbmd.evaluation.conformal import conformal_half_width
from hierbmd.evaluation.files import FIGURE_COLUMNS, figure_rows, versions
from hierbmd.io.atomic import write_json
from hierbmd.io.dataset import Dataset, read_dataset
from hierbmd.io.run_folder import RUN_FILE, run_is_finished
from hierbmd.io.tables import write_table
from hierbmd.io.weights import read_card, read_weights, write_weights
from hierbmd.predict import MEMBER

if TYPE_CHECKING:
    from hierbmd.predict import NetworkPredictor

MODELS: tuple[ModelName, ...] = get_args(ModelName)
SPLITS = ("train", "val", "test")

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fitted:
    """One of the seven: what it keeps, how many features it was offered, its threshold, and its held-out readings."""

    stored: StoredModel
    offered: int
    threshold: float | None
    no_threshold: str
    internal: HeldOut


def fit(data: Path, out: Path, options: Options, *, progress: Progress = silent) -> ModelCard:
    """Train the seven models on the train split of a prepared data set into `out`; returns the card.

    `out` receives weights.safetensors and card.json (the seven models and the encoder), results.json, report.html,
    models.csv, predictions.csv, run.json and features/, from which a stopped run goes on. A finished run is left as it
    is.
    Errors: MissingExtra (mirp), BadManifest, SplitLeak (also between the data set and the external one), BadConfig
    (another run's folder, a reference of another region, an encoder that sees no region), UntrustedWeights,
    WrongWeights (encoder), OutputUnwritable.
    """
    from hierbmd.models.registry import DISCRIMINATOR

    dataset, out = read_dataset(data), Path(out)
    external = None if options.external is None else read_dataset(options.external)
    reference_for(options.reference, dataset.card.region)
    _check_data(dataset, external)
    encoder = _encoder(options, dataset)
    identity = _identity(options, dataset, external, encoder)
    if run_is_finished(out, identity):
        _LOG.info("%s is finished already: %s", NAME, out)
        return read_card(out)
    require_mirp()
    write_json(out / RUN_FILE, {**identity, "finished": False})
    tables = _tables(dataset, external, options, encoder, out / FEATURES_FOLDER, progress)
    models: dict[str, Fitted] = {}
    with progress("models") as report:
        for done, name in enumerate(MODELS, start=1):
            models[name] = _fit_one(name, tables["train"], options)
            report(done, len(MODELS))
    found = _found(models, tables)
    _write_results(out, found, _about(models, options, dataset, encoder), options)
    card = _card(models, tables, options, dataset, encoder)
    tensors, _ = read_weights(options.encoder)
    kept = {f"{MEMBER}0.{name}": x for name, x in tensors.items() if not name.startswith(DISCRIMINATOR)}
    for letters, model in models.items():
        kept |= model.stored.tensors(f"{letters}.")
    write_weights(out, kept, card)
    write_json(out / RUN_FILE, {**identity, "finished": True})
    return read_card(out)


def _check_data(dataset: Dataset, external: Dataset | None) -> None:
    members = [SplitMember(r.pair_id, r.subject, r.split, r.radiograph_sha256) for r in dataset.records]
    if external is not None:
        own = {"region": dataset.card.region, "material": dataset.card.material, "frame": dataset.card.frame}
        other = {name: getattr(external.card, name) for name in own}
        if own != other:
            raise BadManifest(f"a data set of {other}, not {own}", where=external.folder, mend="prepare it alike")
        members += [SplitMember(r.pair_id, r.subject, "external", r.radiograph_sha256) for r in external.records]
    check_leaks(members)
    if not dataset.of_split("train"):
        raise BadManifest("no train patients", where=dataset.folder, mend="prepare it with a train split")


def _encoder(options: Options, dataset: Dataset) -> NetworkPredictor:
    from hierbmd.models.regressor import BmdNet

    encoder = encoder_of(options.encoder, read_card(options.encoder).sha256)
    here, network = dataset.card, encoder.network
    wanted = {"region": here.region, "material": here.material, "frame": here.frame}
    require_matching(encoder.card, where=options.encoder, **wanted)
    density = network.density if isinstance(network, BmdNet) else network
    if density.mask_head is None or (isinstance(network, BmdNet) and not network.image):
        raise BadConfig("the encoder sees no region", where=options.encoder, mend="give a run that predicts an image")
    return encoder


def _identity(
    options: Options, dataset: Dataset, external: Dataset | None, encoder: NetworkPredictor
) -> dict[str, Any]:
    config = dataclasses.asdict(options)
    for name in ("encoder", "external", "workers"):  # told by their contents, or of no matter
        del config[name]
    digests = [dataset.digest(*SPLITS)]
    if external is not None:
        digests.append(external.digest(*dict.fromkeys(record.split for record in external.records)))
    return {
        "stage": NAME,
        "config": config,
        "data_sha256": " ".join(digests),
        "start_sha256": encoder.card.sha256,
        "versions": versions(),
    }


def _tables(
    dataset: Dataset,
    external: Dataset | None,
    options: Options,
    encoder: NetworkPredictor,
    kept: Path,
    progress: Progress,
) -> dict[str, FeatureTable]:
    """The features of every split by its name, and of "external"; only radiographs that were taken."""
    wanted = {name: (dataset, dataset.of_split(name)) for name in SPLITS}
    if external is not None:
        wanted["external"] = (external, external.records)
    tables = {}
    for name, (where, records) in wanted.items():
        taken = [record for record in records if not record.synthetic]
        registered = options.region == "registered" and name == "train"
        recipe = Recipe(options.encoder, encoder.card.sha256, options.bins, registered)
        with progress(f"features, {name}") as report:
            tables[name] = feature_table(where, taken, recipe, kept, workers=options.workers, on_image=report)
    return {name: table for name, table in tables.items() if table.records}


def _fit_one(name: str, table: FeatureTable, options: Options) -> Fitted:
    columns = columns_of(name, table.columns)
    rows = Rows.of(table, columns)
    internal = held_out(rows, options)
    threshold, reason = dxa_threshold(rows, internal.read, options)
    pipeline = fitted(options, rows.X, rows.bmd_g_cm2, rows.subjects)
    return Fitted(StoredModel.of_pipeline(pipeline, columns), len(columns), threshold, reason, internal)


def _found(models: Mapping[str, Fitted], tables: Mapping[str, FeatureTable]) -> dict[str, dict[str, Read]]:
    """What every model read, by place; the training patients by the folds that did not learn from them."""
    found: dict[str, dict[str, Read]] = {place: {} for place in PLACES if place == "internal" or place in tables}
    for name, model in models.items():
        internal = Rows.of(tables["train"], model.stored.columns)
        found["internal"][name] = Read(internal, model.internal.read, model.internal.thresholds)
        for place in found.keys() - {"internal"}:
            rows = Rows.of(tables[place], model.stored.columns)
            threshold = np.nan if model.threshold is None else model.threshold
            limits = np.full(len(rows.records), threshold)
            found[place][name] = Read(rows, model.stored.read(rows.X), limits, model.no_threshold)
    return found


def _about(
    models: Mapping[str, Fitted], options: Options, dataset: Dataset, encoder: NetworkPredictor
) -> dict[str, Any]:
    """What the figures are of."""
    training = dataset.of_split("train")
    learnt = encoder.card.training.get("data_sha256")
    return {
        "baseline": NAME,
        "condition": options.condition,
        "reference": options.reference,
        "reference_population": REFERENCES[options.reference].name,
        "sensitivity_asked": options.sensitivity,
        "select_by": options.select_by,
        "region_of_training_images": options.region,
        "n_train_patients": len({record.subject for record in training}),
        "bmd_sources": sorted({record.bmd_source for record in training}),
        "encoder": encoder.card.name,
        "encoder_learned_from_the_training_patients": learnt == dataset.digest("train", "val"),
        "simulated": dataset.card.simulated,
        "selected": {name: list(model.stored.columns) for name, model in models.items()},
        "offered": {name: model.offered for name, model in models.items()},
        "thresholds": {name: model.threshold for name, model in models.items()},
        "seed": options.seed,
        "bootstrap_samples": options.bootstrap_samples,
        "versions": versions(),
        "research_use_only": RESEARCH_USE_ONLY,
    }


def _write_results(
    out: Path, found: Mapping[str, Mapping[str, Read]], about: Mapping[str, Any], options: Options
) -> None:
    """predictions.csv, models.csv, results.json and the page made of it; all say the same."""
    results = {
        "models": {place: {name: figures(one, options) for name, one in of.items()} for place, of in found.items()},
        "paired": {place: paired(of, options) for place, of in found.items()},
    }
    write_table(out / READ_FILE, *predictions(found))
    write_table(out / TABLE_FILE, (*FIGURE_COLUMNS, "p"), list(figure_rows(results)))
    write_json(out / RESULTS_FILE, {**about, **results})
    write_report(out)


def _card(
    models: Mapping[str, Fitted],
    tables: Mapping[str, FeatureTable],
    options: Options,
    dataset: Dataset,
    encoder: NetworkPredictor,
) -> ModelCard:
    here, chosen = dataset.card, models[options.model]
    kept = {
        name: {"columns": list(m.stored.columns), "offered": m.offered, "threshold": m.threshold}
        for name, m in models.items()
    }
    network = {"model": options.model, "models": kept, "bins": options.bins, "condition": options.condition}
    training = tables["train"].records
    return ModelCard(
        stage=BASELINE,
        baseline=NAME,
        structures=(here.region,),
        network={**network, "reference": options.reference, "sensitivity": options.sensitivity},
        normalisation=encoder.card.normalisation,
        readout=_readout(chosen, tables),
        members=(encoder.card.to_json(),),
        **of_data(here),
        training={
            "train_patients": len({record.subject for record in training}),
            "train_pairs": len(training),
            "bmd_sources": sorted({record.bmd_source for record in training}),
            "data_sha256": dataset.digest("train", "val"),
            "encoder_sha256": encoder.card.sha256,
            "versions": versions(),
            "seed": options.seed,
        },
    )


def _readout(chosen: Fitted, tables: Mapping[str, FeatureTable]) -> Readout:
    """The conformal interval from validation patients, or from held-out training patients where there are none."""
    if "val" in tables:
        rows = Rows.of(tables["val"], chosen.stored.columns)
        read = chosen.stored.read(rows.X)[:, 0]
    else:
        rows, read = Rows.of(tables["train"], chosen.stored.columns), chosen.internal.read[:, 0]
    half_width, level = conformal_half_width(np.abs(read - rows.bmd_g_cm2), rows.subjects)
    return Readout(1.0, 0.0, half_width, level)
