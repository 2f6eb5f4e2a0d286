"""What every reader checks before it takes memory, and how a damaged file becomes one line."""

from __future__ import annotations

import gzip
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from hierbmd.errors import OversizedFile, UnreadableFile

DEFAULT_MAX_GIB = 8.0
"""How much one file may expand to in memory, unless a reader is told otherwise."""

DEFLATE_MAX_RATIO = 1032
"""Deflate never packs tighter than 1032:1 (zlib technical details, zlib.net/zlib_tech.html)."""

_GIB = 2**30
_CHUNK = 1 << 20
_DECODER_ERRORS = (
    OSError,
    EOFError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    RuntimeError,
    ArithmeticError,
    AssertionError,
    SyntaxError,
    MemoryError,
    struct.error,
    zlib.error,
)
"""What pydicom, nibabel, SimpleITK and Pillow have been seen to raise on damaged files."""


def unreadable(kind: str, path: str | Path, reason: object) -> UnreadableFile:
    """The one-line refusal of a file that is not a `kind` ("CT", "label map", "radiograph")."""
    return UnreadableFile(f"not a readable {kind}", where=path, mend=_short(reason))


@contextmanager
def decoding(kind: str, path: str | Path, *more: type[Exception]) -> Iterator[None]:
    """Turn what a decoder raises or warns about on a damaged file into UnreadableFile; our own errors pass through."""
    raised: tuple[type[Exception], ...] = (*_DECODER_ERRORS, *more)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except raised as error:
        raise unreadable(kind, path, getattr(error, "strerror", None) or error) from error


def require_file(kind: str, path: str | Path) -> Path:
    """The path of a regular file that is there and not empty; UnreadableFile otherwise."""
    file = Path(path)
    if not file.is_file():
        raise unreadable(kind, path, "is a folder" if file.is_dir() else "no such file")
    if file.stat().st_size == 0:
        raise unreadable(kind, path, "the file is empty")
    return file


def require_within(claimed_bytes: int, max_gib: float, path: str | Path) -> None:
    """OversizedFile when what a file expands to is more than the stated limit."""
    if claimed_bytes > max_gib * _GIB:
        raise OversizedFile(
            f"expands beyond the limit of {max_gib:g} GiB",
            where=path,
            mend=f"it claims {claimed_bytes / _GIB:.1f} GiB; raise the limit if it is meant",
        )


def require_held(kind: str, path: str | Path, *, claimed_bytes: int, held_bytes: int) -> None:
    """OversizedFile when a header claims more bytes of voxels than the file can hold."""
    if claimed_bytes > held_bytes:
        raise OversizedFile(
            f"not a readable {kind}",
            where=path,
            mend=f"the header claims {claimed_bytes} bytes of voxels, the file holds at most {held_bytes}",
        )


def gunzip(path: str | Path, at_most: int) -> bytes:
    """The first `at_most` bytes of a gzip file, decompressed in pieces so that memory follows what is really there.

    Raises what gzip raises (EOFError, OSError, zlib.error); call it inside `decoding`.
    """
    pieces: list[bytes] = []
    left = at_most
    with gzip.open(path, "rb") as stream:
        while left > 0 and (piece := stream.read(min(_CHUNK, left))):
            pieces.append(piece)
            left -= len(piece)
    return b"".join(pieces)


def inflated_size(stream: BinaryIO, at_most: int, *, window_bits: int = 47) -> int:
    """How many bytes a deflated stream expands to, counted in pieces and given up on after `at_most`.

    `window_bits` as zlib takes it: 47 finds zlib and gzip headers by itself, -15 is raw deflate.
    """
    inflater = zlib.decompressobj(window_bits)
    size = 0
    while size <= at_most and not inflater.eof and (piece := inflater.unconsumed_tail or stream.read(_CHUNK)):
        size += len(inflater.decompress(piece, _CHUNK))
    return size


def _short(reason: object) -> str:
    text = " ".join(str(reason).split()) or type(reason).__name__
    return text if len(text) <= 200 else text[:197] + "..."
