"""Command-line options from a frozen options dataclass: `--config FILE`, `--print_config` and one flag a field."""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import functools
import re
import sys
import typing
from typing import Any, TypeVar

from jsonargparse import ActionConfigFile, ArgumentParser

from hierbmd.errors import BadConfig

Options = TypeVar("Options")


def parse(command: str, kind: type[Options], argv: list[str]) -> Options:
    """The options of a command from its arguments and configuration files.

    A field `sdd_mm` is the flag `--sdd-mm` and the YAML key `sdd_mm`, and `from_` is `--from`; the fields of a `part`
    stand beside the command's own. A tuple takes `a,b,c` (and two numbers `WxH`). Wrong flags and values end with
    status 2; an unknown key in a configuration file raises BadConfig.
    """
    parser = ArgumentParser(prog=f"hierbmd {command}", description=_first_line(kind), exit_on_error=False)
    parser.add_argument("--config", action=ActionConfigFile, help="a YAML file with the options below")
    settings = flat(kind)
    for one in settings:
        _add(parser, one)
    lists = {_flag(s.name) for s in settings if not s.field.metadata.get("positional") and _is_tuple(s.hint)}
    try:
        ready = parser.instantiate(parser.parse_args(_positionals_first(_with_joined_lists(argv, lists), parser)))
    except argparse.ArgumentError as error:
        _refuse(parser.prog, error, [one.name for one in settings])
    return _built(kind, {one.path: _as_tuple(getattr(ready, one.name)) for one in settings})


@dataclasses.dataclass(frozen=True)
class Setting:
    """What a user may set: the name of its flag and key, and where in the options it goes.

    `starts` holds the value that the part it stands in starts from; without one the field's own default holds.
    """

    name: str
    path: tuple[str, ...]
    field: dataclasses.Field[Any]
    hint: Any
    starts: tuple[Any, ...] = ()


def flat(kind: type) -> list[Setting]:
    """The settings of an options dataclass in their order, those of its parts among them."""
    hints = typing.get_type_hints(kind)
    found: list[Setting] = []
    for field in dataclasses.fields(kind):
        if not field.metadata.get("part"):
            found.append(Setting(field.name.rstrip("_"), (field.name,), field, hints[field.name]))
            continue
        only, names = field.metadata["only"], field.metadata["names"]
        inner = {".".join(one.path): one for one in flat(hints[field.name])}
        unknown = {*only, *names} - set(inner)
        if unknown:
            raise TypeError(f"{kind.__name__}.{field.name} has no {', '.join(sorted(unknown))}")
        made = field.default_factory
        whole = made() if made is not dataclasses.MISSING else None
        for dotted in only or inner:
            one = inner[dotted]
            starts = one.starts if whole is None else (functools.reduce(getattr, one.path, whole),)
            path = (field.name, *one.path)
            found.append(dataclasses.replace(one, name=names.get(dotted, one.name), path=path, starts=starts))
    return found


def _built(kind: type[Options], values: dict[tuple[str, ...], Any]) -> Options:
    """An instance with the values at their paths; what of a part has none keeps the part's default."""
    own = {path[0]: value for path, value in values.items() if len(path) == 1}
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]
        within = {path[1:]: value for path, value in values.items() if path[0] == field.name and len(path) > 1}
        if within:
            own[field.name] = _built(typing.get_type_hints(kind)[field.name], within)
    return kind(**own)


def _add(parser: ArgumentParser, setting: Setting) -> None:
    field, hint = setting.field, setting.hint
    required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    settings: dict[str, Any] = {"help": field.metadata.get("help", "")}
    if not required:
        made = field.default_factory
        settings["default"] = field.default if made is dataclasses.MISSING else made()
    if setting.starts:
        settings["default"] = setting.starts[0]
    if field.metadata.get("positional"):
        if _is_tuple(hint):
            parser.add_argument(setting.name, type=str, nargs="+" if required else "*", **settings)
        else:
            parser.add_argument(setting.name, type=hint, **settings)
    elif hint is bool and settings.get("default") is False:
        parser.add_argument(_flag(setting.name), action="store_true", **settings)
    else:
        parser.add_argument(_flag(setting.name), type=hint, required=required, **settings)


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


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
