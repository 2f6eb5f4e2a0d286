"""Command-line options from a frozen options dataclass: `--config FILE`, `--print_config` and one flag a field."""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import re
import sys
import typing
from typing import Any, TypeVar

from jsonargparse import ActionConfigFile, ArgumentParser

from hierbmd.errors import BadConfig

Options = TypeVar("Options")


def parse(command: str, kind: type[Options], argv: list[str]) -> Options:
    """The options of a command from its arguments and configuration files.

    A field `sdd_mm` is the flag `--sdd-mm` and the YAML key `sdd_mm`, and `from_` is `--from`. A tuple takes `a,b,c`
    (and two numbers `WxH`). Wrong flags and values end with status 2; an unknown key in a configuration file raises
    BadConfig.
    """
    parser = ArgumentParser(prog=f"hierbmd {command}", description=_first_line(kind), exit_on_error=False)
    parser.add_argument("--config", action=ActionConfigFile, help="a YAML file with the options below")
    hints = typing.get_type_hints(kind)
    fields = dataclasses.fields(kind)  # type: ignore[arg-type]
    for field in fields:
        _add_field(parser, field, hints[field.name])
    lists = {_flag(f.name) for f in fields if not f.metadata.get("positional") and _is_tuple(hints[f.name])}
    try:
        ready = parser.instantiate(parser.parse_args(_positionals_first(_with_joined_lists(argv, lists), parser)))
    except argparse.ArgumentError as error:
        _refuse(parser.prog, error, [field.name.rstrip("_") for field in fields])
    return kind(**{field.name: _as_tuple(getattr(ready, field.name.rstrip("_"))) for field in fields})


def _add_field(parser: ArgumentParser, field: dataclasses.Field[Any], hint: Any) -> None:
    required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    settings: dict[str, Any] = {"help": field.metadata.get("help", "")}
    if not required:
        made = field.default_factory
        settings["default"] = field.default if made is dataclasses.MISSING else made()
    if field.metadata.get("positional"):
        if _is_tuple(hint):
            parser.add_argument(field.name, type=str, nargs="+" if required else "*", **settings)
        else:
            parser.add_argument(field.name, type=hint, **settings)
    elif hint is bool and field.default is False:
        parser.add_argument(_flag(field.name), action="store_true", **settings)
    else:
        parser.add_argument(_flag(field.name), type=hint, required=required, **settings)


def _flag(name: str) -> str:
    return "--" + name.rstrip("_").replace("_", "-")


def _is_tuple(hint: Any) -> bool:
    return any(typing.get_origin(part) is tuple for part in (hint, *typing.get_args(hint)))


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _with_joined_lists(argv: list[str], flags: set[str]) -> list[str]:
    """`--pose -1,2,3` as `--pose=[-1,2,3]`: argparse takes a leading minus for a flag, and YAML wants the brackets."""
    joined: list[str] = []
    tokens = iter(argv)
    for token in tokens:
        flag, equals, value = token.partition("=")
        if flag in flags:
            value = value if equals else next(tokens, "")
            value = re.sub(r"^(\d+)[xX](\d+)$", r"\1,\2", value)
            joined.append(f"{flag}={value if value.startswith('[') else f'[{value}]'}")
        else:
            joined.append(token)
    return joined


def _positionals_first(argv: list[str], parser: ArgumentParser) -> list[str]:
    """`A --json B` as `A B --json`: argparse fills a list of positionals from one place alone."""
    switches = {flag for action in parser._actions if action.nargs == 0 for flag in action.option_strings}
    positionals: list[str] = []
    flags: list[str] = []
    tokens = iter(argv)
    for token in tokens:
        if token == "--":
            positionals += [token, *tokens]
        elif not token.startswith("-") or token == "-":
            positionals.append(token)
        else:
            flags.append(token)
            if token.startswith("--") and "=" not in token and token not in switches and token != "--print_config":
                flags += [value for value in (next(tokens, None),) if value is not None]
    return [*flags, *positionals] if "--" in positionals else [*positionals, *flags]


def _refuse(program: str, error: argparse.ArgumentError, known: list[str]) -> typing.NoReturn:
    text = " ".join(str(error).split())
    unknown = re.search(r"(?:Option|unrecognized arguments:) '?-*([\w.-]+)", text)
    close = difflib.get_close_matches(unknown.group(1).replace("-", "_"), known, n=1) if unknown else []
    if "is not accepted" in text and unknown:
        nearest = f"nearest key: {close[0]}" if close else "keys: " + ", ".join(known)
        raise BadConfig("unknown key in the configuration", where=unknown.group(1), mend=nearest) from None
    hint = f" (did you mean {_flag(close[0])}?)" if close else ""
    print(f"{program}: {text}{hint}\n{program} --help says what it takes.", file=sys.stderr)
    raise SystemExit(2)


def _first_line(kind: type) -> str:
    return (kind.__doc__ or "").strip().splitlines()[0]
