"""A delivery: its event, its state, its rounds and attempts, and its body."""

from __future__ import annotations

from typing import NamedTuple

from receiver.api.delivery_shapes import WholeDelivery
from receiver.console.answers import Attachment
from receiver.console.bodies import ShownBody, bytes_of, shown_body
from receiver.console.page import Button, ConsolePage
from receiver.console.visit import Visit
from receiver.errors import BodyExpired, Forbidden
from receiver.inbox.tables import State


class DeliveryShown(NamedTuple):
    """The values for the template."""

    delivery: WholeDelivery
    #: None if the body has expired, or this person may not see it.
    body: ShownBody | None
    plain: ShownBody | None
    may_replay: bool
    may_try: bool


def show_one_delivery(visit: Visit) -> DeliveryShown:
    """One delivery, with its body if this person may see it."""
    found = visit.ask(WholeDelivery, "show_delivery", id=visit.path["id"])
    visible = visit.sees_bodies
    return DeliveryShown(
        delivery=found,
        body=shown_body(found.body, found.body_encoding) if visible and found.body is not None else None,
        plain=shown_body(found.plain, found.plain_encoding) if visible and found.plain is not None else None,
        may_replay=found.ended_at is not None and found.body is not None,
        may_try=found.state is State.PENDING and found.attempts_made > 0,
    )


def download_body(visit: Visit) -> Attachment:
    """The bytes that were received. Raises `BodyExpired`, and `Forbidden` for a viewer who may not see bodies."""
    if not visit.sees_bodies:
        raise Forbidden("Viewers may not see bodies here: ask an operator.")
    found = visit.ask(WholeDelivery, "show_delivery", id=visit.path["id"])
    if found.body is None:
        raise BodyExpired("The body of this delivery has expired: reconcile the source instead.")
    return Attachment(bytes_of(found.body, found.body_encoding), f"delivery-{found.id}.bin")


PAGES = (
    ConsolePage(
        name="delivery",
        path="/deliveries/{id}",
        title="A delivery",
        template="delivery.html",
        operation="show_delivery",
        command="hookmirror show {id}",
        show=show_one_delivery,
        live=("deliveries", "runs"),
    ),
    ConsolePage(
        name="delivery_body",
        path="/deliveries/{id}/body",
        title="The body of a delivery",
        template="delivery.html",
        operation="show_delivery",
        command="hookmirror show {id} --body",
        show=download_body,
    ),
)

BUTTONS = (
    Button(
        name="replay_delivery",
        path="/deliveries/{id}/replay",
        label="Replay this delivery",
        operation="replay_delivery",
        command="hookmirror replay {id}",
        says="The delivery is pending again.",
        then="/deliveries/{id}",
        fields=("reason",),
    ),
    Button(
        name="try_delivery",
        path="/deliveries/{id}/try",
        label="Try it now",
        operation="try_delivery",
        command="hookmirror retry {id}",
        says="The delivery is tried now.",
        then="/deliveries/{id}",
    ),
)
