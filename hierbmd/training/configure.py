"""A stage's configuration through LightningCLI: YAML files and overrides, limited to code that may be named there."""

from __future__ import annotations

import argparse
import difflib
import re
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any, ClassVar, NoReturn

import yaml
from jsonargparse import set_parsing_settings
from lightning.pytorch import LightningModule
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from hierbmd.errors import BadConfig
from hierbmd.training.data import PairData

ALLOWED_CODE = ("hierbmd", "monai", "torch.optim", "torch.nn", "lightning")
"""What a configuration may name: these modules and what is in them. A class path is code that will run."""


class StageCLI(LightningCLI):
    """LightningCLI that reads a given list of arguments and leaves running to us."""

    known_keys: ClassVar[list[str]] = []

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """One seed for everything, the stage, how often sample images are drawn and how often an image is read."""
        parser.add_argument("--stage_class", type=str, default="", help="the stage, set by its own configuration")
        parser.add_argument("--samples_every", type=int, default=10, help="draw sample images every so many epochs")
        parser.add_argument(
            "--early_stopping", type=int, default=0, help="stop after so many validations that were no better; 0 never"
        )
        parser.add_argument(
            "--readings", type=int, default=5, help="readings of an image, of moved copies too, whose BMDs are averaged"
        )
        parser.link_arguments("seed_everything", "data.seed")

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse the given arguments, whatever sys.argv holds."""
        StageCLI.known_keys = [str(action.dest) for action in parser._actions]
        self.config = parser.parse_args(args)

    def instantiate_classes(self) -> None:
        """Make the stage and its data; the trainer is made later, once the run folder is known to be usable."""
        self.config_init = self.parser.instantiate(self.config)
        self.model, self.datamodule = self.config_init["model"], self.config_init["data"]

    def dump(self) -> str:
        """The whole configuration as YAML."""
        return str(self.parser.dump(self.config, skip_unset=False, format="yaml"))

    def settings(self) -> dict[str, Any]:
        """The configuration as plain data, without the places of the data: what identifies a run."""
        value: dict[str, Any] = yaml.safe_load(self.dump())
        value.pop("config", None)
        value.get("data", {}).pop("folder", None)
        value.get("model", {}).pop("radiographs", None)
        return value


def configured(stage_class: type[LightningModule], arguments: Sequence[str]) -> StageCLI:
    """The stage, its data and its settings from command-line style arguments; `--config FILE` may come several times.

    BadConfig: an unknown key (the nearest is named), a value of the wrong type, or code outside ALLOWED_CODE.
    """
    set_parsing_settings(import_path_denylist=["*"], import_path_allowlist=list(ALLOWED_CODE))
    try:
        return StageCLI(
            stage_class,
            PairData,
            save_config_callback=None,
            seed_everything_default=0,
            parser_kwargs={"exit_on_error": False, "prog": "hierbmd train STAGE"},
            args=list(arguments),
            run=False,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
        )
    except argparse.ArgumentError as error:
        _refuse(error, StageCLI.known_keys)
    except (TypeError, ValueError) as error:
        raise BadConfig("the configuration cannot be used", where=error) from None


def config_path(name: str | Path) -> Path:
    """A configuration file: a path as given, or the name of one that comes with the package.

    As "smoke", "smoke.yaml" or "comparison/single_stage"; BadConfig when there is none of that name.
    """
    path = Path(name)
    if path.is_file():
        return path
    packaged = Path(str(resources.files("hierbmd.configs"))) / path.with_suffix(".yaml")
    if not path.is_absolute() and ".." not in path.parts and packaged.is_file():
        return packaged
    raise BadConfig("no such configuration", where=name, mend="give a YAML file, or smoke for a run of seconds")


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML mapping, safely loaded; BadConfig when it is none."""
    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise BadConfig(f"not a readable YAML file ({error})", where=path) from None
    if not isinstance(value, dict):
        raise BadConfig("not a mapping of keys to values", where=path, mend="see hierbmd train STAGE --print_config")
    return value


def _unknown_key(text: str) -> str:
    """The key that jsonargparse's message says is unknown, with its group, or nothing."""
    grouped = re.search(r"Group '([\w.]+)' does not accept option '([\w.]+)'", text)
    if grouped:
        return f"{grouped.group(1)}.{grouped.group(2)}"
    single = re.search(r"(?:Option|Key|[Uu]nrecognized arguments:) ['\"]?-*([\w.]+)", text)
    refused = re.search(r"not accepted|not expected|nrecognized|does not exist", text)
    return single.group(1) if single and refused else ""


def _refuse(error: argparse.ArgumentError, keys: list[str]) -> NoReturn:
    text = re.sub(r"\s+", " ", str(error)).strip()
    if "denied by" in text or "is not allowed" in text:
        named = re.search(r"Importing '([^']+)'", text)
        allowed = ", ".join(f"{name}.*" for name in ALLOWED_CODE)
        raise BadConfig(
            "the configuration names code outside the allow-list",
            where=named.group(1) if named else text,
            mend=f"allowed: {allowed}",
        ) from None
    key = _unknown_key(text)
    if key:
        close = difflib.get_close_matches(key, keys, n=1, cutoff=0.5)
        mend = f"nearest key: {close[0]}" if close else "--print_config shows every key"
        raise BadConfig("unknown key in the configuration", where=key, mend=mend) from None
    raise BadConfig(
        "the configuration cannot be used", where=text[:500], mend="--print_config shows every key"
    ) from None
