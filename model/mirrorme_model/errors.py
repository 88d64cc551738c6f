"""What can go wrong with models, named by what the caller can do about it."""

from __future__ import annotations


class ModelError(Exception):
    """Base of all model errors."""


class ConfigError(ModelError, ValueError):
    """A setting is unknown, missing, or not supported. The message names it."""


class CheckpointError(ModelError):
    """A checkpoint cannot be read, or does not fit the model it claims to be."""
