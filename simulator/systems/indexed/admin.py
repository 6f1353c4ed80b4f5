"""Indexed PIM's webhook screens: records per app, bulk actions, the log (Indexed docs, section "What is included").

The vendor has pages for people in place of this API. The JSON, the login and the error bodies here are assumptions.
"""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from simulator.answers import is_url, json_answer, json_object, whole_number
from simulator.systems.base import Subscription
from simulator.systems.indexed.entities import APPS, EVENTS
from simulator.systems.indexed.system import Indexed

Handler = Callable[[Request], Awaitable[Response]]

PER_PAGE = 20

ACTIONS = ("activate", "deactivate", "delete")


def routes(system: Indexed) -> list[BaseRoute]:
    admin = Admin(system)
    answers = (
        ("/apps", "GET", admin.apps),
        ("/events", "GET", admin.events),
        ("/apps/{app}/webhooks", "GET", admin.all),
        ("/apps/{app}/webhooks", "POST", admin.create),
        ("/apps/{app}/webhooks/bulk", "POST", admin.bulk),
        ("/apps/{app}/webhooks/{id}", "GET", admin.one),
        ("/apps/{app}/webhooks/{id}", "PUT", admin.replace),
        ("/apps/{app}/webhooks/{id}", "DELETE", admin.delete),
        ("/apps/{app}/logs", "GET", admin.logs),
    )
    return [Route(path, admin.guarded(answer), methods=[method]) for path, method, answer in answers]


class Admin:
    def __init__(self, system: Indexed) -> None:
        self.system = system

    def guarded(self, handler: Handler) -> Handler:
        """Wrap a handler: answer 401 without the admin's token, and 404 for an unknown app."""
        expected = f"Bearer {self.system.admin_token}".encode()

        async def guard(request: Request) -> Response:
            if not hmac.compare_digest(request.headers.get("authorization", "").encode(), expected):
                return failure(401, "The admin's token is missing or wrong: send Authorization: Bearer ….")
            if request.path_params.get("app", next(iter(APPS))) not in APPS:
                return failure(404, "There is no such app.")
            return await handler(request)

        return guard

    async def apps(self, request: Request) -> Response:  # noqa: ARG002 (there are few)
        return json_answer({"items": [{"external_id": app, "name": name} for app, name in APPS.items()]})

    async def events(self, request: Request) -> Response:  # noqa: ARG002 (a fixed list)
        return json_answer({"items": list(EVENTS)})

    async def all(self, request: Request) -> Response:
        return json_answer({"items": [shown(record) for record in self._records(request)]})

    async def one(self, request: Request) -> Response:
        record = self._named(request)
        return json_answer(shown(record)) if record else failure(404, "There is no such webhook.")

    async def create(self, request: Request) -> Response:
        given = await json_object(request)
        errors = wrong(given)
        if given is None or errors:
            return failure(422, "The webhook is not valid.", errors)
        active = given.get("active", True)
        record = self.system.record(given["event"], given["url"], app=request.path_params["app"], active=active)
        self.system.subscriptions.append(record)
        return json_answer(shown(record), status=201)

    async def replace(self, request: Request) -> Response:
        """Replace the URL, the event and the active flag. The external id and the secret stay."""
        record = self._named(request)
        if record is None:
            return failure(404, "There is no such webhook.")
        given = await json_object(request)
        errors = wrong(given)
        if given is None or errors:
            return failure(422, "The webhook is not valid.", errors)
        record.url, record.events, record.active = given["url"], (given["event"],), given.get("active", record.active)
        return json_answer(shown(record))

    async def delete(self, request: Request) -> Response:
        record = self._named(request)
        if record is None:
            return failure(404, "There is no such webhook.")
        self.system.subscriptions.remove(record)
        return Response(status_code=204)

    async def bulk(self, request: Request) -> Response:
        """Do `{"action", "external_ids"}`, and answer `{"changed": <number of records>}`. Unknown ids are skipped."""
        given = await json_object(request) or {}
        ids, action = given.get("external_ids"), given.get("action")
        if action not in ACTIONS:
            return failure(422, "The action is not valid.", {"action": f"Choose one of {', '.join(ACTIONS)}."})
        if not isinstance(ids, list) or not all(isinstance(name, str) for name in ids):
            return failure(422, "The action is not valid.", {"external_ids": "A list of external ids."})
        chosen = [record for record in self._records(request) if record.id in ids]
        for record in chosen:
            record.active = action == "activate"
        if action == "delete":
            self.system.subscriptions = [record for record in self.system.subscriptions if record not in chosen]
        return json_answer({"changed": len(chosen)})

    async def logs(self, request: Request) -> Response:
        """Answer `{"items", "page", "pages", "total"}`, with the newest entry first."""
        number = whole_number(request, "page", default=1, least=1)
        limit = whole_number(request, "limit", default=PER_PAGE, least=1, most=100)
        if number is None or limit is None:
            return failure(422, "page must be 1 or more, limit 1 to 100.")
        entries = [each for each in reversed(self.system.log) if each.app == request.path_params["app"]]
        items = [each.shown() for each in entries[(number - 1) * limit : number * limit]]
        pages = max(1, -(-len(entries) // limit))
        return json_answer({"items": items, "page": number, "pages": pages, "total": len(entries)})

    def _records(self, request: Request) -> list[Subscription]:
        return [record for record in self.system.subscriptions if record.app == request.path_params["app"]]

    def _named(self, request: Request) -> Subscription | None:
        return next((each for each in self._records(request) if each.id == request.path_params["id"]), None)


def shown(record: Subscription) -> dict[str, Any]:
    """Format a record for an answer. The secret is not masked, because users copy it from this page."""
    return {
        "external_id": record.id,
        "url": record.url,
        "event": (record.events or ("",))[0],
        "active": record.active,
        "secret": record.secret,
    }


def wrong(given: dict[str, Any] | None) -> dict[str, str]:
    """Find the mistakes in a form, by field (Indexed docs, section "Setup flow", step 2)."""
    if given is None:
        return {"body": "A JSON object."}
    errors = {}
    if not is_url(given.get("url")):
        errors["url"] = "An http or https URL."
    if given.get("event") not in EVENTS:
        errors["event"] = "Exactly one event of the list at /events."
    if not isinstance(given.get("active", True), bool):
        errors["active"] = "true or false."
    return errors


def failure(status: int, message: str, errors: dict[str, str] | None = None) -> Response:
    """Answer with the error body `{"message", "errors": {field: allowed value}}`, which is an assumption."""
    return json_answer({"message": message, "errors": errors or {}}, status=status)
