"""What stands for a patient where results go: a salted hash of the id, and no name of a file."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import replace

from hierbmd.data.manifest import PATH_COLUMNS, Manifest, ManifestRow

_KEPT_COLUMNS = ("simulated",)
_DIGITS = 16


def pseudonym(name: str, salt: bytes) -> str:
    """A name's stand-in: HMAC-SHA256 (RFC 2104), 64 bits of it. Without the salt nobody can tell whose it is."""
    return "h" + hmac.new(salt, name.encode(), hashlib.sha256).hexdigest()[:_DIGITS]


def pseudonymised(manifest: Manifest, salt: bytes) -> Manifest:
    """The manifest with subjects and radiographs called by their pseudonyms, and without its unknown columns.

    The files stay where they are; nobody knows what an unknown column holds, so only "simulated" is kept.
    """
    return replace(manifest, rows=tuple(_row(row, salt) for row in manifest.rows))


def without_names(text: str, row: ManifestRow) -> str:
    """A message about a row with its files called by their columns, where the row goes by a pseudonym."""
    if not row.called:
        return text
    for column in PATH_COLUMNS:
        path = getattr(row, column)
        if path is not None:
            for name in (str(path.resolve()), str(path), path.name):
                text = text.replace(name, f"the {column}")
    return text


def _row(row: ManifestRow, salt: bytes) -> ManifestRow:
    called = pseudonym(row.radiograph.name, salt) + row.radiograph.suffix
    extra = {name: value for name, value in row.extra.items() if name in _KEPT_COLUMNS}
    return replace(row, subject=pseudonym(row.subject, salt), called=called, extra=extra)
