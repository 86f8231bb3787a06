"""`/v1/sources`, `/v1/phones`, `/v1/vendors`: which phones there are, and what they do on NOTIFY."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from fastapi import Query

from resyncctl.api.models import Given, Phones, Sources
from resyncctl.api.rollouts import PAGE, Limit, PageCursor
from resyncctl.api.services import Use
from resyncctl.engine.access import Scope
from resyncctl.engine.listing import source_reports
from resyncctl.engine.pages import phones_page
from resyncctl.errors import NotFoundError
from resyncctl.vendors import Vendor

if TYPE_CHECKING:
    from resyncctl.api.routing import Routes


class Vendors(Given):
    """Vendors of the catalogue."""

    vendors: list[Vendor]


async def list_sources(services: Use) -> dict[str, object]:
    """List the sources of phones that the configuration names."""
    return {"sources": source_reports(services.launcher.sources)}


async def list_phones(
    services: Use,
    source: Annotated[str, Query(description="A source of the configuration.")],
    where: Annotated[list[str] | None, Query(description="`FIELD=GLOB`; repeatable.", examples=["site=berlin"])] = None,
    cursor: PageCursor = "",
    limit: Limit = PAGE,
) -> dict[str, object]:
    """List the phones of a source.

    Credentials are never shown.
    """
    path = services.launcher.source(source)
    page = await phones_page(path, where or [], services.launcher.catalogue, limit=limit, cursor=cursor)
    return {"phones": list(page.phones), "next": page.more or None}


async def list_vendors(
    services: Use,
    user_agent: Annotated[
        str,
        Query(
            description="Only the vendor that this User-Agent belongs to.", examples=["Yealink SIP-T46U 108.86.0.20"]
        ),
    ] = "",
) -> Vendors:
    """List the vendor catalogue."""
    catalogue = services.launcher.catalogue
    if not user_agent:
        return Vendors(vendors=list(catalogue))
    found = catalogue.match(user_agent)
    return Vendors(vendors=[found] if found else [])


async def show_vendor(vendor: str, services: Use) -> Vendor:
    """Show what is known of a vendor."""
    found = services.launcher.catalogue.get(vendor.lower())
    if found is None:
        raise NotFoundError(f"there is no vendor {vendor[:80]!r}; GET /v1/vendors lists which there are")
    return found


def add(routes: Routes) -> None:
    """Add the operations."""
    tag, read = "inventory", Scope.READ
    routes.add("GET", "/v1/sources", list_sources, tag=tag, scope=read, answer=Sources)
    routes.add("GET", "/v1/phones", list_phones, tag=tag, scope=read, answer=Phones, errors=(404,))
    routes.add("GET", "/v1/vendors", list_vendors, tag=tag, scope=read, answer=Vendors)
    routes.add("GET", "/v1/vendors/{vendor}", show_vendor, tag=tag, scope=read, answer=Vendor, errors=(404,))
