"""Runcast: a self-hosted realtime gateway for long pipelines."""

__version__ = "0.1.0"
