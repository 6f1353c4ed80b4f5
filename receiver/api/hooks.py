"""The description of webhooks for the OpenAPI document; `receiver.ingest.endpoint` accepts them."""

from __future__ import annotations

from typing import Literal

from receiver.api.operations import Operation
from receiver.api.parameters import SOURCE
from receiver.errors import BodyTooLarge, ChallengeRefused, MethodNotAllowed, NotVerified, Unavailable, UnknownSource
from receiver.ingest.replies import Receipt

RECEIVE = Operation(
    name="receive",
    method="post",
    path="/hooks/{source}",
    summary="Accept a webhook, signed or encrypted as its sender's system does",
    answer=None,
    answers={200: Receipt},
    refusals=(NotVerified, ChallengeRefused, UnknownSource, BodyTooLarge, Unavailable),
    parameters=(SOURCE,),
    takes_body=True,
)


def _challenge(method: Literal["get", "options"]) -> Operation:
    return Operation(
        name=f"challenge_by_{method}",
        method=method,
        path="/hooks/{source}",
        summary="Answer a challenge of a sender, if its dialect knows challenges",
        answer=None,
        answers={200: str},
        media_type="text/plain",
        refusals=(ChallengeRefused, UnknownSource, MethodNotAllowed, Unavailable),
        parameters=(SOURCE,),
    )


#: The answers of the endpoint.
HOOKS = (RECEIVE, _challenge("get"), _challenge("options"))
