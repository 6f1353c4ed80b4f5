"""sticky.io's webhook: one registration with a KeyPhrase, and a test event (docs/sources.md, section sticky.io).

The vendor documents the encryption under a phrase of 32 letters and digits, and the members of the test event. The
paths, members and statuses here are assumptions, because the vendor has a web form instead.
"""

from __future__ import annotations

import re
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from receiver import codec
from receiver.verify.request import WebhookRequest
from simulator.answers import is_url, json_answer, json_object
from simulator.systems.base import Change, Message, Subscription
from simulator.systems.sticky.api import Api, failure
from simulator.systems.sticky.system import Sticky

PATH = "/api/v2/webhooks"

KEY_PHRASE = re.compile(r"[A-Za-z0-9]{32}")


def routes(system: Sticky, api: Api) -> list[BaseRoute]:
    webhook = Webhook(system)
    answers = (
        (PATH, "GET", webhook.show),
        (PATH, "POST", webhook.register),
        (PATH, "DELETE", webhook.remove),
        (f"{PATH}/test", "POST", webhook.test),
    )
    return [Route(path, api.guarded(answer), methods=[method]) for path, method, answer in answers]


class Webhook:
    def __init__(self, system: Sticky) -> None:
        self.system = system

    async def show(self, request: Request) -> Response:  # noqa: ARG002 (there is only one)
        hook = self._registered()
        return told(hook, self.system) if hook else nothing()

    async def register(self, request: Request) -> Response:
        """Register the webhook `{"url", "key_phrase"}`. A second registration replaces the first."""
        given = await json_object(request) or {}
        url, phrase = given.get("url"), given.get("key_phrase")
        if not is_url(url):
            return failure(422, "url must be an http or https URL.")
        if not isinstance(phrase, str) or not KEY_PHRASE.fullmatch(phrase):
            return failure(422, "key_phrase must be exactly 32 letters and digits.")
        self.system.key_phrase = phrase
        self.system.subscribe(str(url))
        return told(self.system.subscriptions[0], self.system, status=201)

    async def remove(self, request: Request) -> Response:  # noqa: ARG002 (there is only one)
        if self._registered() is None:
            return nothing()
        self.system.subscriptions = []
        return json_answer({"status": "SUCCESS"})

    async def test(self, request: Request) -> Response:  # noqa: ARG002 (it has no body)
        hook = self._registered()
        if hook is None:
            return nothing()
        self.system.outbox.append(test_message(self.system, hook))
        return json_answer({"status": "SUCCESS"}, status=202)

    def _registered(self) -> Subscription | None:
        return self.system.subscriptions[0] if self.system.subscriptions else None


def test_message(system: Sticky, hook: Subscription) -> Message:
    """Make the message of the test event."""
    reference = system.wire.uuid()
    body = codec.encode({"message": "This is a test.", "reference": reference, "URL": hook.url})
    change = Change(number=0, event_type="test", at=system.clock.now(), family="test", data=None)
    return system.post(change, hook, body, *system.verifier.sign(WebhookRequest(body), system.credentials(hook)))


def told(hook: Subscription, system: Sticky, *, status: int = 200) -> Response:
    """Format the registration for an answer. The key phrase is left out: the account that registered it has it."""
    data: dict[str, Any] = {"url": hook.url, "clientAppKey": system.app_key, "cipher": system.cipher}
    return json_answer({"status": "SUCCESS", "data": data}, status=status)


def nothing() -> Response:
    return failure(404, "No webhook is registered.")
