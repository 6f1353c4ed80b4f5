"""Remarks: lists the guesses that a person must check, and the parts that one captured request does not show."""

from __future__ import annotations

from collections.abc import Iterator

from receiver.drafting.guess import Guess
from receiver.drafting.naming import literal
from receiver.drafting.proofs import secret_header


def guessed(found: Guess) -> Iterator[str]:
    """Yield a line for each guessed part."""
    guess, types = found.envelope, found.types
    if found.items is not None:
        where = "the body" if found.items[0] is None else f"`{found.items[0]}`"
        yield f"several events in one body: {where} lists them"
    if found.proof is not None:
        yield f"signature: {found.proof.call.code}, {found.proof.because}"
    if found.capture.form:
        fields = "all of its fields" if found.capture.form is True else f"JSON in the field `{found.capture.form}`"
        yield f"a form: {fields}"
    if guess.event_type is not None:
        behind = "" if guess.resource is None else f" behind `{guess.resource.shown}`"
        yield f"event type: `{guess.event_type.shown}`{behind} ({types.example})"
    if found.topic is not None:
        yield f"event type: the header {found.topic.title()} ({types.example}), which the dialect trusts"
    if guess.entity_id is not None:
        yield f"entity: `{types.kind}`, with its id in `{guess.entity_id.shown}`"
    if guess.time is not None:
        zone = ", taken as UTC" if guess.time_form == "naive" else ""
        yield f"time of the change: `{guess.time.shown}`{zone}"
    if guess.key is not None:
        yield f"id of the change, for duplicates: `{guess.key.shown}`"
    if guess.entity_id is not None:
        yield f"table: {', '.join(column.name for column in found.columns) or 'no columns'}"
        yield f"handlers: {types.upserts} upserts" + (f", {types.delete} deactivates" if types.delete else "")


def unknown(found: Guess) -> Iterator[str]:
    """Yield a line for each part that could not be guessed."""
    guess, types = found.envelope, found.types
    yield from _unknown_proof(found)
    if found.topic is not None:
        yield (
            f"event type: whether {found.topic.title()} is signed. If it is not, a stranger with one signed body can "
            "send that body as another event: recognise a delete by the shape of its body, if possible"
        )
    elif guess.event_type is None:
        yield f"event type: no member names it. The module takes every body as {types.example}"
    if guess.entity_id is None:
        yield "entity: no member looks like an id, so the handler discards the events"
    if guess.time is None:
        yield "time of the change: no member holds it, so ARRIVAL dates each change by its arrival"
    elif guess.time_form == "naive":
        yield "time zone: the time has no offset. Write its time zone into the envelope function"
    if guess.key is None:
        yield "id of the change: none found, so duplicates are recognised by time and content"
    if guess.entity_id is not None and types.delete is None:
        yield "delete: its event type is unknown, so no event deactivates a row"
    elif guess.entity_id is not None and not types.is_delete:
        yield f"delete: whether its event type is {types.delete}, and the form of its body. Capture one"
    if found.left_out and guess.entity_id is not None:
        yield f"columns: none for {', '.join(found.left_out[:20])} (null here, or too many)"


def _unknown_proof(found: Guess) -> Iterator[str]:
    if found.proof is not None:
        if not found.proof.is_confirmed:
            yield "signature: the signed text is a guess. Give --secrets-file, so that a secret confirms it"
        return
    carrier = secret_header(found.capture.headers)
    if carrier is not None:
        yield (
            f"proof: {carrier.title()} seems to carry the secret itself. Unsigned() accepts every body: write "
            f"Token(header={literal(carrier.title())}), perhaps with a `prefix`, in its place"
        )
    elif found.token is not None:
        yield (
            f"proof: `{found.token}` in the body is the secret itself. Unsigned() accepts every body: write "
            f"Token(body={literal(found.token)}) in its place, and remove the secret from the fixture and the table"
        )
    else:
        yield (
            "proof: no header looks like a signature. Unsigned() accepts every body: name the header with --header, "
            "or find out from the sender's documentation how its webhooks are verified"
        )
