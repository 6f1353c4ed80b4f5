"""Remarks: lists the guesses that a person must check, and the parts that one captured request does not show."""

from __future__ import annotations

from collections.abc import Iterator

from receiver.drafting.guess import Guess
from receiver.drafting.members import is_named_in_utc, is_time_of_sending
from receiver.drafting.naming import literal
from receiver.drafting.proofs import CodeCall, Proof, secret_header, unread_signature
from receiver.logs.wording import counted

#: The most event types without a handler that a line names.
MOST_TYPES_NAMED = 20


def guessed(guess: Guess) -> Iterator[str]:
    """Yield a line for each guessed part."""
    envelope, types = guess.envelope, guess.types
    if guess.items is not None:
        where = f"`{'.'.join(guess.items)}`" if guess.items else "the body itself"
        yield f"several events in one body: {counted(guess.count, 'item')} in {where}"
    if guess.proof is not None:
        yield f"signature: {guess.proof.call.code}, {guess.proof.because}"
    if guess.capture.form:
        fields = "all of its fields" if guess.capture.form is True else f"JSON in the field `{guess.capture.form}`"
        yield f"a form: {fields}"
    if envelope.before is not None:
        yield f"states of a row: `{envelope.data.shown}`, and before the change `{envelope.before.shown}`"
    if envelope.is_told_by_states:
        table = "" if envelope.resource is None else f"`{envelope.resource.shown}`, and "
        yield f"event type: {table}`deleted` without `{envelope.data.shown}`, else `updated` ({types.example})"
    if envelope.event_type is not None:
        behind = "" if envelope.resource is None else f" behind `{envelope.resource.shown}`"
        yield f"event type: `{envelope.event_type.shown}`{behind} ({types.example})"
    if guess.topic is not None:
        yield f"event type: the header {guess.topic.title()} ({types.example}), which the dialect trusts"
    if envelope.entity_id is not None:
        yield f"entity: `{types.kind}`, with its id in `{envelope.entity_id.shown}`"
    if envelope.time is not None:
        zone = ", taken as UTC" if envelope.time_form == "naive" else ""
        yield f"time of the change: `{envelope.time.shown}`{zone}"
    for member in guess.times_of_sending:
        yield f"`{member.shown}` looks like the time of sending, and is not used"
    if envelope.key is not None:
        yield f"id of the change, for duplicates: `{envelope.key.shown}`"
    if envelope.entity_id is not None:
        yield f"table: {', '.join(column.name for column in guess.columns) or 'no columns'}"
        if envelope.data.path:
            rest = f"; not used: {', '.join(f'`{name}`' for name in guess.unused[:20])}" if guess.unused else ""
            yield f"changed object: `{envelope.data.shown}`{rest}"
    yield f"handlers: {_handled(guess)}"


def _handled(guess: Guess) -> str:
    """Say which event types have a handler, and what becomes of the others."""
    types = guess.types
    if guess.envelope.entity_id is None:
        does = {types.example: "is discarded"}
    else:
        does = {types.update: "upserts", types.delete or "": "deactivates"}
    told = ", ".join(f"{name} {verb}" for name, verb in does.items() if name in guess.seen)
    without = ", ".join([name for name in guess.seen if name not in does][:MOST_TYPES_NAMED])
    beside = f". The capture also has {without}, without a handler" if without else ""
    return (
        f"{told}{beside}. Webhooks of every other event type are stored and ignored until you add a handler, and "
        "`hookmirror findings` lists them"
    )


def unknown(guess: Guess) -> Iterator[str]:
    """Yield a line for each part that could not be guessed."""
    envelope, types = guess.envelope, guess.types
    yield from _unknown_proof(guess)
    if guess.topic is not None:
        yield (
            f"event type: whether {guess.topic.title()} is signed. If it is not, a stranger with one signed body can "
            "send that body as another event: recognise a delete by the shape of its body, if possible"
        )
    elif guess.unread_topic is not None and envelope.event_type is not None:
        yield (
            f"event type: {guess.unread_topic.title()} names it, but the module reads `{envelope.event_type.shown}` of "
            "each item, which may be the same for a delete. If so, let the envelope function take the header "
            "(trusts_header)"
        )
    elif envelope.event_type is None and envelope.before is None:
        yield f"event type: no member names it. The module takes every body as {types.example}"
    yield from _unknown_entity(guess)
    if envelope.time is None:
        yield "time of the change: no member holds it, so ARRIVAL dates each change by its arrival"
    elif is_time_of_sending(envelope.time):
        yield (
            f"time of the change: `{envelope.time.shown}` looks like the time of sending, so an old change that is "
            "sent late counts as newer than it is. Find out which member has the time of the change"
        )
    if envelope.time is not None and envelope.time_form == "naive" and not is_named_in_utc(envelope.time):
        yield "time zone: the time has no offset. Write its time zone into the envelope function"
    if envelope.key is None:
        yield "id of the change: none found, so duplicates are recognised by time and content"
    if envelope.entity_id is not None:
        yield from _unknown_delete(guess)
    if guess.left_out and envelope.entity_id is not None:
        yield f"columns: none for {', '.join(guess.left_out[:20])} (null here, or too many)"


def _unknown_entity(guess: Guess) -> Iterator[str]:
    envelope, types = guess.envelope, guess.types
    if envelope.entity_id is None:
        yield "entity: no member looks like an id, so the handler discards the events"
    elif (
        envelope.key is None
        and envelope.before is None
        and envelope.data.path
        and envelope.entity_id.path[:-1] != envelope.data.path
    ):
        yield (
            f"entity: whether `{envelope.entity_id.shown}`, which is outside of `{envelope.data.shown}`, is the id of "
            f"the {types.kind}. If it is the id of the change, it is the `dedup_key`, and the entity needs another "
            "member"
        )
    for each in guess.entity_lists:
        yield (
            f"entities: `{each}` is a list of objects. If each of them is a changed entity, the module misses them: "
            "let the envelope function return an envelope for each, with each()"
        )


def _unknown_delete(guess: Guess) -> Iterator[str]:
    types = guess.types
    if types.delete in guess.seen:
        return
    if guess.delete_mark is not None:
        yield (
            f"delete: `{guess.delete_mark}` looks like the mark of one. The module takes an event in which it is true "
            "for an update, so its row stays active: in the envelope function, give such an event an event type of its "
            "own, and add a handler with mirror.deactivate"
        )
    elif (seen := next(filter(types.may_be_deleted_by, guess.seen), None)) is not None:
        yield (
            f"delete: whether {seen}, which the capture has, deletes a {types.kind}. If it does, add "
            f"@{guess.name}.on({literal(seen)}) with mirror.deactivate; if it names several, let the envelope function "
            "return an event for each"
        )
    elif types.delete is None:
        yield "delete: its event type is unknown, so no event deactivates a row"
    else:
        yield (
            f"delete: whether its event type is {types.delete}, and the form of its body. Capture one, then add "
            f"@{guess.name}.on({literal(types.delete)}) with mirror.deactivate"
        )


def _unknown_proof(guess: Guess) -> Iterator[str]:
    if guess.proof is not None:
        if guess.proof.covers_url:
            yield (
                f"signature: not confirmed, because {guess.proof.call.code} covers the URL that the sender calls, and "
                "a capture does not have it. Set `public_url` in the settings, and let the sender post again"
            )
        elif guess.proof.tried:
            yield _not_confirmed(guess.proof, guess.secrets_file)
        elif not guess.proof.is_confirmed:
            yield "signature: the signed text is a guess. Give --secrets-file, so that a secret confirms it"
        return
    carrier = secret_header(guess.capture.headers)
    if carrier is not None:
        yield (
            f"proof: {carrier.title()} seems to carry the secret itself. Unsigned() accepts every body: write "
            f"Token(header={literal(carrier.title())}), perhaps with a `prefix`, in its place"
        )
    elif guess.token is not None:
        yield (
            f"proof: `{guess.token}` in the body is the secret itself. Unsigned() accepts every body: write "
            f"Token(body={literal(guess.token)}) in its place, and remove the secret from the fixture and the table"
        )
    elif (unread := unread_signature(guess.capture.headers)) is not None:
        yield (
            f"proof: {unread.title()} is named like a signature, but its value has no form that is known here. "
            "Unsigned() accepts every body: write in its place how the sender's documentation verifies its webhooks"
        )
    elif guess.signature_in_body is not None:
        yield (
            f"proof: `{guess.signature_in_body.shown}` in the body is named like a signature. Unsigned() accepts every "
            "body: write in its place how the sender's documentation verifies its webhooks"
        )
    else:
        yield (
            "proof: no header looks like a signature. Unsigned() accepts every body: name the header with --header, "
            "or find out from the sender's documentation how its webhooks are verified"
        )


def _not_confirmed(proof: Proof, file: str) -> str:
    texts = dict.fromkeys(call.args[0] if call.args else _covered_by(call) for call in proof.tried)
    algorithms = dict.fromkeys(call.named.get("by", "hmac_sha256") for call in proof.tried)
    return (
        f"signature: NOT confirmed: the secret in {file} fits none of the {len(proof.tried)} forms tried "
        f"({', '.join(texts)}; {', '.join(algorithms)}; the secret as text, base64 or hexadecimal digits). "
        "Every webhook will be refused until you correct `verify=`"
    )


def _covered_by(call: CodeCall) -> str:
    """The signed text of a call without a template, or the name of its short form."""
    return "{body}" if call.name == "HmacSha256" else call.code
