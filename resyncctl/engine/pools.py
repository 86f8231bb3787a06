"""Which workers reach which sites: `POOL=SITE_GLOB` pairs of the configuration; the first that matches decides."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from resyncctl.errors import InputError
from resyncctl.store.records import MAX_POOLS


class Pools:
    """The pool of each site; '' is the pool of sites that nothing matches."""

    def __init__(self, pairs: Sequence[str] = ()) -> None:
        """Read the pairs; raise InputError for one without a pool or a glob."""
        self._pairs = []
        for pair in pairs:
            pool, _, glob = pair.partition("=")
            if not pool or not glob:
                raise InputError(f"pools: {pair!r} is not POOL=SITE_GLOB; write for example berlin=ber-*")
            self._pairs.append((pool, glob))
        self.names = ("", *dict.fromkeys(pool for pool, _ in self._pairs))
        """All pools; a pool's place here is its number in a plan."""
        if len(self.names) > MAX_POOLS:
            raise InputError(f"pools: more than {MAX_POOLS - 1} pools")
        self._known: dict[str, int] = {}

    def number(self, site: str) -> int:
        """Return the number of a site's pool."""
        known = self._known.get(site)
        if known is None:
            pool = next((pool for pool, glob in self._pairs if fnmatchcase(site, glob)), "")
            known = self._known[site] = self.names.index(pool)
        return known
