"""How sends are spread over time: jitter, site interleaving, and the spacing that keeps the rate."""

from __future__ import annotations

import hashlib
from array import array
from collections import Counter
from collections.abc import Sequence
from typing import Final

SLACK: Final = 0.005
"""Share by which sends are planned further apart than the rate asks for, and the seconds by which a send may be late.

R sends planned R * 1.005 / R = 1.005 s apart, each at most 5 ms late, are never more than R in one second, exactly.
A send that would be later than that is given up for a later slot, and everything behind it is shifted."""


def seed_of(*parts: str) -> int:
    """Derive a 64-bit seed from text."""
    return int.from_bytes(hashlib.blake2b("\0".join(parts).encode(), digest_size=8, person=b"seed").digest(), "big")


class Jitter:
    """Uniform random delays, each a function of the seed and the device alone."""

    def __init__(self, seed: int) -> None:
        self._keyed = hashlib.blake2b(key=(seed & (2**64 - 1)).to_bytes(8, "big"), digest_size=8)

    def share(self, device: int) -> float:
        """Return a number in [0, 1) for a device key of 63 bits."""
        keyed = self._keyed.copy()
        keyed.update(device.to_bytes(8, "big"))
        return (int.from_bytes(keyed.digest(), "big") >> 11) / 2**53


def spacing_us(rate: float) -> int:
    """Return the microseconds between two sends at `rate` per second; 0 = unlimited."""
    return 0 if rate <= 0 else -int(-1_000_000 * (1 + SLACK) // rate)


def interleave(sites: Sequence[int]) -> list[int]:
    """Return the indices ordered so that every stretch holds each site in proportion to its size.

    The k-th of n phones of a site belongs at (k + 1/2) / n of the way. Within a site the order stays. Deterministic.
    """
    totals = Counter(sites)
    if len(totals) <= 1:
        return list(range(len(sites)))
    seen: Counter[int] = Counter()
    position = array("d", bytes(8 * len(sites)))
    for index, site in enumerate(sites):
        position[index] = (seen[site] + 0.5) / totals[site]
        seen[site] += 1
    return sorted(range(len(sites)), key=position.__getitem__)
