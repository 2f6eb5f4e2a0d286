"""hierbmd: bone mineral density from plain radiographs by hierarchical learning. Research use only."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("hierbmd")
except PackageNotFoundError:  # a source tree that was not installed
    __version__ = "0.0.0"
