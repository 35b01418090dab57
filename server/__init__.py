"""The inference server: HTTP in front, a batching engine behind."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("causalrn")
except PackageNotFoundError:  # run from a source tree that was never installed
    __version__ = "0.1.0"
