"""Resync or reboot registered SIP phones in batches: paced, previewed, tracked in Redis."""

__version__ = "0.1.0"
