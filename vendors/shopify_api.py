"""A small client of Shopify's Admin API (GraphQL): lists in pages, one object by its id, and the rate limit."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import httpx

from handlers.api import client, patiently, post, required, shaped
from handlers.catalog import Product, Variant
from handlers.values import Id, MomentOrNone, Price, Sent, ShortText, Text
from receiver import ApiError, Listed, ListPage, Retry, SourceSettings
from vendors.tables import StockLevel
from vendors.values import member

#: Rows in one page. A page of items asks for `MOST_LOCATIONS` levels of each item, and a query may cost at most 1,000
#: points.
PAGE, PAGE_OF_ITEMS, MOST_LOCATIONS = 100, 20, 30

LONGEST_RESTORE = 60  #: the most seconds that a throttled query waits before it is repeated

ONE_PRODUCT = "legacyResourceId title status updatedAt"
ONE_VARIANT = "legacyResourceId title sku price product { legacyResourceId }"
ONE_LEVEL = 'updatedAt location { legacyResourceId } quantities(names: ["available"]) { name quantity }'


def connect(source: SourceSettings) -> httpx.Client:
    token = required(source, "api_key", source.api_key)
    return client(source, headers={"X-Shopify-Access-Token": token})


def ask(api: httpx.Client, query: str, **variables: Any) -> dict[str, Any]:
    """Send a query, and return the `data` of the answer. Raises `Retry` if throttled, `ApiError` for other errors."""
    answer = post(api, "/graphql.json", {"query": query, "variables": variables})
    errors = member(answer, "errors")
    if errors:
        first = errors[0] if isinstance(errors, list) else errors
        if member(first, "extensions.code") == "THROTTLED":
            raise Retry("The Admin API is throttled.", after=_restoring(member(answer, "extensions.cost")))
        raise ApiError(
            f"The Admin API answered with an error ({str(member(first, 'message') or first)[:200]}): check the version "
            "in api_url, and that the app may read products, inventory and locations."
        )
    data = member(answer, "data")
    if not isinstance(data, dict):
        raise ApiError("The Admin API answered without `data`: check api_url, which ends in /admin/api/<version>.")
    return data


def _restoring(cost: Any) -> timedelta:
    """Return the time until the API has restored the points that the query costs."""
    try:
        status = cost["throttleStatus"]
        seconds = (cost["requestedQueryCost"] - status["currentlyAvailable"]) / status["restoreRate"]
        return timedelta(seconds=min(max(float(seconds), 1.0), LONGEST_RESTORE))
    except (TypeError, KeyError, ArithmeticError, ValueError):
        return timedelta(seconds=1)


# ── one object of the API ─────────────────────────────────────────────────────────────────────────────────────


class Named(Sent):
    legacyResourceId: Id  # noqa: N815 (as the API calls it)


class ProductNode(Named):
    title: Text = None
    status: Text = None
    updatedAt: MomentOrNone = None  # noqa: N815

    def listed(self) -> Listed:
        state = self.status.lower() if self.status else None
        columns = {"name": self.title, "lifecycle_state": state}
        return Listed(Product, self.legacyResourceId, columns, changed_at=self.updatedAt)


class VariantNode(Named):
    title: Text = None
    sku: ShortText = None
    price: Price = None
    product: Named

    def listed(self) -> Listed:
        """Return the row without a time of change, because webhooks date a variant by its product's time."""
        columns = {"name": self.title, "sku": self.sku, "price": self.price, "parent": self.product.legacyResourceId}
        return Listed(Variant, self.legacyResourceId, columns)


class Quantity(Sent):
    name: str
    quantity: Price = None


class LevelNode(Sent):
    location: Named
    updatedAt: MomentOrNone = None  # noqa: N815
    quantities: list[Quantity]

    def listed(self, item: str) -> Listed:
        available = next((each.quantity for each in self.quantities if each.name == "available"), None)
        place = self.location.legacyResourceId
        columns = {"item": item, "location": place, "available": available}
        return Listed(StockLevel, f"{item}:{place}", columns, changed_at=self.updatedAt)


def product(api: httpx.Client, external_id: str) -> list[Listed]:
    query = f"query($id: ID!) {{ found: product(id: $id) {{ {ONE_PRODUCT} }} }}"
    found = _one(api, query, ProductNode, id=f"gid://shopify/Product/{external_id}")
    return [found.listed()] if found else []


def variant(api: httpx.Client, external_id: str) -> list[Listed]:
    query = f"query($id: ID!) {{ found: productVariant(id: $id) {{ {ONE_VARIANT} }} }}"
    found = _one(api, query, VariantNode, id=f"gid://shopify/ProductVariant/{external_id}")
    return [found.listed()] if found else []


def level(api: httpx.Client, external_id: str) -> list[Listed]:
    item, _, location = external_id.partition(":")
    query = f"""query($item: ID!, $location: ID!) {{
      found: inventoryItem(id: $item) {{ inventoryLevel(locationId: $location) {{ {ONE_LEVEL} }} }}
    }}"""
    gids = {"item": f"gid://shopify/InventoryItem/{item}", "location": f"gid://shopify/Location/{location}"}
    found = member(ask(api, query, **gids), "found.inventoryLevel")
    return [shaped(LevelNode, found, "inventoryItem").listed(item)] if found else []


def _one(api: httpx.Client, query: str, model: type[Any], **variables: str) -> Any:
    """Query one object; None if the API says that it does not exist. Raises `ApiError` for an object of another id."""
    data = ask(api, query, **variables)
    if "found" not in data:
        raise ApiError("The Admin API answered without the object of the query: check api_url.")
    if data["found"] is None:
        return None
    found = shaped(model, data["found"], "graphql.json")
    if found.legacyResourceId != variables["id"].rpartition("/")[2]:
        raise ApiError("The Admin API answered with the object of another id.")
    return found


# ── its lists ─────────────────────────────────────────────────────────────────────────────────────────────────


class PageInfo(Sent):
    hasNextPage: bool  # noqa: N815
    endCursor: str | None = None  # noqa: N815


class Connection(Sent):
    nodes: list[Any]
    pageInfo: PageInfo  # noqa: N815

    @property
    def next(self) -> str | None:
        """The cursor of the next page; None after the last one. Raises `ApiError` if the cursor is missing."""
        if self.pageInfo.hasNextPage and not self.pageInfo.endCursor:
            raise ApiError("The Admin API says that there are more rows, but gives no cursor: try again later.")
        return self.pageInfo.endCursor if self.pageInfo.hasNextPage else None


def products(api: httpx.Client, start: str | None) -> ListPage:
    return _page(api, "products", PAGE, ONE_PRODUCT, start, lambda node: [_shaped(ProductNode, node).listed()])


def variants(api: httpx.Client, start: str | None) -> ListPage:
    return _page(api, "productVariants", PAGE, ONE_VARIANT, start, lambda node: [_shaped(VariantNode, node).listed()])


def levels(api: httpx.Client, start: str | None) -> ListPage:
    inner = f"inventoryLevels(first: {MOST_LOCATIONS}) {{ nodes {{ {ONE_LEVEL} }} pageInfo {{ hasNextPage }} }}"
    return _page(api, "inventoryItems", PAGE_OF_ITEMS, f"legacyResourceId {inner}", start, _levels_of)


def _levels_of(node: Any) -> list[Listed]:
    item = _shaped(Named, node).legacyResourceId
    found = shaped(Connection, member(node, "inventoryLevels"), "inventoryLevels")
    if found.pageInfo.hasNextPage:
        raise ApiError(
            f"The inventory item {item} is at more than {MOST_LOCATIONS} locations, which this dialect does not list: "
            "its stock levels cannot be reconciled."
        )
    return [shaped(LevelNode, each, "inventoryLevels").listed(item) for each in found.nodes]


def _shaped(model: type[Any], node: Any) -> Any:
    return shaped(model, node, "graphql.json")


def _page(
    api: httpx.Client, name: str, size: int, fields: str, start: str | None, rows: Callable[[Any], list[Listed]]
) -> ListPage:
    query = f"""query($after: String) {{
      {name}(first: {size}, after: $after) {{ nodes {{ {fields} }} pageInfo {{ hasNextPage endCursor }} }}
    }}"""
    data = patiently(lambda: ask(api, query, after=start))
    found = shaped(Connection, data.get(name), name)
    return ListPage([row for node in found.nodes for row in rows(node)], next=found.next)
