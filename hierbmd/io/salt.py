"""The secret behind pseudonyms, in a file of its own that stays with those who know the patients."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from hierbmd.errors import BadConfig, OutputUnwritable

_BYTES = 32


def read_salt(path: str | Path) -> bytes:
    """The secret of a file; BadConfig when there is none, or it holds something else."""
    try:
        salt = bytes.fromhex(Path(path).read_text(encoding="ascii").strip())
    except (OSError, ValueError):
        salt = b""
    if len(salt) < _BYTES:
        raise BadConfig("no salt of 32 bytes in hexadecimal", where=path, mend="the file that prepare --salt made")
    return salt


def made_salt(path: str | Path, *, not_in: str | Path) -> bytes:
    """As `read_salt`; a file that is not there yet is made, readable by its owner alone.

    BadConfig when it would lie in the folder `not_in`, where the results go.
    """
    path = Path(path)
    if path.resolve().is_relative_to(Path(not_in).resolve()):
        raise BadConfig("the salt would go where the results go", where=path, mend="keep it beside the manifest")
    if not path.exists():
        _make(path)
    return read_salt(path)


def _make(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Exclusive: of two runs at once one makes it and the other reads it.
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as stream:
            stream.write(secrets.token_hex(_BYTES) + "\n")
    except FileExistsError:
        return
    except OSError as error:
        raise OutputUnwritable(f"cannot write ({error.strerror})", where=path, mend="give another --salt") from None
