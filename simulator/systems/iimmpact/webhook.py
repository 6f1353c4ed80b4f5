"""IIMMPACT's one webhook: register, enable, disable, rotate, remove (docs/sources.md, IIMMPACT, "API").

The vendor documents the paths, the body of POST and the HTTPS rule. Other members and the statuses are assumptions.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from simulator.answers import is_loopback, is_url, json_answer, json_object
from simulator.systems.base import Subscription
from simulator.systems.iimmpact.api import Api, failure
from simulator.systems.iimmpact.system import Iimmpact

PATH = "/v2/reseller/catalog/webhook"


def routes(system: Iimmpact, api: Api) -> list[BaseRoute]:
    webhook = Webhook(system)
    answers = (
        (PATH, "GET", webhook.show),
        (PATH, "POST", webhook.register),
        (PATH, "PUT", webhook.switch),
        (PATH, "DELETE", webhook.remove),
        (f"{PATH}/rotate", "POST", webhook.rotate),
    )
    return [Route(path, api.signed(answer), methods=[method]) for path, method, answer in answers]


class Webhook:
    def __init__(self, system: Iimmpact) -> None:
        self.system = system

    async def show(self, request: Request) -> Response:  # noqa: ARG002 (there is only one)
        hook = self._registered()
        return json_answer(shown(hook)) if hook else nothing()

    async def register(self, request: Request) -> Response:
        """Register the webhook. Only this answer shows the secret (IIMMPACT guide, section "Setup", step 3)."""
        given = await json_object(request)
        url = (given or {}).get("webhook_url")
        if not isinstance(url, str) or not is_url(url):
            return failure(422, "VALIDATION_ERROR", "webhook_url must be a URL.")
        if not url.startswith("https://") and not (self.system.allow_loopback_http and is_loopback(url)):
            return failure(422, "HTTPS_REQUIRED", "The webhook URL must use HTTPS.")
        if self._registered():
            return failure(409, "CONFLICT", "A webhook is registered already: remove it first.")
        self.system.subscribe(url)
        return json_answer(told(self.system.subscriptions[0]), status=201)

    async def switch(self, request: Request) -> Response:
        """Set `{"enabled": …}`. Events while the webhook is disabled are lost (section "Events During Downtime")."""
        hook = self._registered()
        if hook is None:
            return nothing()
        enabled = (await json_object(request) or {}).get("enabled")
        if not isinstance(enabled, bool):
            return failure(422, "VALIDATION_ERROR", "enabled must be true or false.")
        self.system.subscriptions = [replace(hook, active=enabled)]
        return json_answer(shown(self.system.subscriptions[0]))

    async def rotate(self, request: Request) -> Response:  # noqa: ARG002 (it has no body)
        """Replace the secret. Only this answer shows the new one, which signs all later events."""
        if self._registered() is None:
            return nothing()
        self.system.rotate()
        return json_answer(told(self.system.subscriptions[0]))

    async def remove(self, request: Request) -> Response:  # noqa: ARG002 (there is only one)
        if self._registered() is None:
            return nothing()
        self.system.subscriptions = []
        return Response(status_code=204)

    def _registered(self) -> Subscription | None:
        return self.system.subscriptions[0] if self.system.subscriptions else None


def shown(hook: Subscription) -> dict[str, Any]:
    return {"webhook_url": hook.url, "enabled": hook.active}


def told(hook: Subscription) -> dict[str, Any]:
    return {**shown(hook), "secret": hook.secret}


def nothing() -> Response:
    return failure(404, "NOT_FOUND", "No webhook is registered.")
