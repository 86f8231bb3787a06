"""What is counted for Prometheus. Made once by the composition root and handed on; nothing global is registered."""

from __future__ import annotations
