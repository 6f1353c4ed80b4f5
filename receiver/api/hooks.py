"""Webhooks as the document shows them: the endpoint takes them, `receiver.ingest.endpoint`."""

from __future__ import annotations

from receiver.api.operations import Operation
from receiver.api.parameters import SOURCE
from receiver.errors import BodyTooLarge, NotVerified, Unavailable, UnknownSource
from receiver.ingest.endpoint import Receipt

RECEIVE = Operation(
    name="receive",
    method="post",
    path="/hooks/{source}",
    summary="Accept a webhook, signed or encrypted as its sender's system does",
    answer=None,
    answers={200: Receipt},
    refusals=(NotVerified, UnknownSource, BodyTooLarge, Unavailable),
    parameters=(SOURCE,),
    takes_body=True,
)
