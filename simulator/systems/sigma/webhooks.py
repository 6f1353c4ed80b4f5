"""Sigma PIM's webhooks over its API (Sigma docs, section "Endpoints")."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from simulator.answers import is_url, json_answer, json_object
from simulator.systems.base import Subscription
from simulator.systems.sigma.api import failure, guarded, not_found
from simulator.systems.sigma.entities import EVENTS
from simulator.systems.sigma.system import Sigma

#: The text that answers show instead of a secret (Sigma docs, section "List all webhooks").
MASK = "••••••••"

#: Sigma docs, section "Create webhook", table "Request body": the members with their types.
REQUIRED = {"id": str, "name": str, "url": str, "events": list, "active": bool}
OPTIONAL = {"description": str, "secret": str}


def routes(system: Sigma) -> list[BaseRoute]:
    webhooks = Webhooks(system)
    answers = (
        ("/webhooks", "GET", webhooks.all),
        ("/webhooks", "POST", webhooks.create),
        ("/webhooks/{id}", "GET", webhooks.one),
        ("/webhooks/{id}", "PUT", webhooks.replace),
        ("/webhooks/{id}", "DELETE", webhooks.delete),
    )
    return [Route(path, guarded(system, answer), methods=[method]) for path, method, answer in answers]


class Webhooks:
    def __init__(self, system: Sigma) -> None:
        self.system = system

    async def all(self, request: Request) -> Response:  # noqa: ARG002 (it is not paged)
        return json_answer([shown(hook) for hook in self.system.subscriptions])

    async def one(self, request: Request) -> Response:
        hook = self._named(request)
        return json_answer(shown(hook)) if hook else not_found("webhook")

    async def create(self, request: Request) -> Response:
        """Create a webhook, and answer 201. The vendor does not publish the status."""
        given = await json_object(request)
        problem = wrong(given)
        if given is None or problem:
            return failure("VALIDATION_ERROR", problem)
        if any(hook.id == given["id"] for hook in self.system.subscriptions):
            return failure("CONFLICT", "There is a webhook with this id already.")
        hook = built(given, kept=None)
        self.system.subscriptions.append(hook)
        return json_answer(shown(hook), status=201)

    async def replace(self, request: Request) -> Response:
        """Replace a webhook. A member that the body leaves out is removed (Sigma docs, section "Update webhook")."""
        old = self._named(request)
        if old is None:
            return not_found("webhook")
        given = await json_object(request)
        problem = wrong(given)
        if given is not None and not problem and given["id"] != old.id:
            problem = "The id of a webhook cannot be changed."
        if given is None or problem:
            return failure("VALIDATION_ERROR", problem)
        hook = built(given, kept=old.secret)
        self.system.subscriptions[self.system.subscriptions.index(old)] = hook
        return json_answer(shown(hook))

    async def delete(self, request: Request) -> Response:
        hook = self._named(request)
        if hook is None:
            return not_found("webhook")
        self.system.subscriptions.remove(hook)
        return json_answer({"deleted": True})

    def _named(self, request: Request) -> Subscription | None:
        wanted = request.path_params["id"]
        return next((hook for hook in self.system.subscriptions if hook.id == wanted), None)


def shown(hook: Subscription) -> dict[str, Any]:
    """Format a webhook for an answer. A description or secret that it does not have is left out."""
    return {
        "id": hook.id,
        "name": hook.name,
        **({} if hook.description is None else {"description": hook.description}),
        "url": hook.url,
        "events": list(hook.events or ()),
        **({} if hook.secret is None else {"secret": MASK}),
        "active": hook.active,
    }


def built(given: dict[str, Any], *, kept: str | None) -> Subscription:
    """Make the webhook of a valid body. If the body has the mask as its secret, the old one stays (an assumption)."""
    secret = given.get("secret") or None
    return Subscription(
        id=given["id"],
        name=given["name"],
        description=given.get("description"),
        url=given["url"],
        events=tuple(given["events"]),
        secret=kept if secret == MASK else secret,
        active=given["active"],
    )


def wrong(given: dict[str, Any] | None) -> str:
    """Describe the first mistake in a body; empty if it is valid. An optional member may be null."""
    if given is None:
        return "The body must be a JSON object."
    for name, kind in REQUIRED.items():
        if not isinstance(given.get(name), kind) or given[name] == "":
            return f"{name} is required and must be a {kind.__name__}."
    for name, value in given.items():
        if name not in REQUIRED and name not in OPTIONAL:
            return f"{name} is unknown: a webhook has {', '.join([*REQUIRED, *OPTIONAL])}."
        if name in OPTIONAL and value is not None and not isinstance(value, OPTIONAL[name]):
            return f"{name} must be a string."
    if not is_url(given["url"]):
        return "url must be an http or https URL."
    if not given["events"] or any(event not in EVENTS for event in given["events"]):
        return f"events must name at least one of {', '.join(EVENTS)}."
    return ""
