"""The version of xcheck, as pyproject.toml declares it."""

__version__ = "0.1.0"
