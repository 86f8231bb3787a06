"""What each make of phone does on NOTIFY: the catalogue as data (catalogue.toml) and its loader."""

from __future__ import annotations

from resyncctl.vendors.catalogue import Catalogue
from resyncctl.vendors.model import (
    CALL_ID_PLACEHOLDER,
    FALLBACK_EVENT,
    GENERAL_REBOOT_EVENT,
    Confidence,
    Intent,
    OtherEvent,
    Reboots,
    Trigger,
    Unsupported,
    Vendor,
    VendorId,
)

__all__ = [
    "CALL_ID_PLACEHOLDER",
    "FALLBACK_EVENT",
    "GENERAL_REBOOT_EVENT",
    "Catalogue",
    "Confidence",
    "Intent",
    "OtherEvent",
    "Reboots",
    "Trigger",
    "Unsupported",
    "Vendor",
    "VendorId",
]
