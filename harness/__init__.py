"""A performance gate for machine-learning inference."""

__version__ = "0.1.0"
