"""Scenes of several structures: a body all of whose voxels are labelled, so that their number is all that differs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hierbmd.drr.scene import Scene

CELLS = {1: (1, 1, 1), 2: (1, 1, 2), 3: (1, 1, 3), 10: (1, 2, 5), 30: (2, 3, 5), 100: (4, 5, 5)}
"""How many structures there can be, and how many of them lie along each axis."""


def divided(scene: Scene, count: int) -> Scene:
    """The scene of one structure as `count` neighbours, one of CELLS, with wavy borders: their boxes overlap.

    All hold about as many voxels; the sum of their images is the image of the whole.
    """
    if scene.structures != ("all",) or scene.channels is not None:
        raise ValueError("only a scene of one structure is divided")
    filled = np.nonzero(scene.values)
    x, y, z = (np.float32(axis / n) for axis, n in zip(filled, scene.values.shape, strict=True))
    wavy = (x + 0.04 * np.sin(15 * z), y + 0.04 * np.sin(15 * x), z + 0.04 * np.sin(15 * y))
    cells = np.zeros(x.size, dtype=np.int64)
    # The corners of the body's box are empty: it is cut where equal shares of the voxels lie, axis after axis.
    for place, parts in zip(wavy, CELLS[count], strict=True):
        finer = cells * parts
        for cell in np.unique(cells):
            mine = cells == cell
            cuts = np.quantile(place[mine], np.arange(1, parts) / parts)
            finer[mine] += np.searchsorted(cuts, place[mine])
        cells = finer
    channels = np.zeros(scene.values.shape, dtype=np.uint8)
    channels[filled] = cells + 1
    return replace(scene, channels=channels, structures=tuple(f"s{n}" for n in range(count)))
