"""The version, in a file of its own so that installing needs no import of JAX."""

__version__ = "0.1.0"
