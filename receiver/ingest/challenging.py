"""Challenging: calls the challenge functions of a dialect with a request, and checks their answer."""

from __future__ import annotations

from collections.abc import Mapping

import structlog

from receiver.dialects.challenges import ChallengeRequest, is_word, query_of
from receiver.dialects.replies import SenderReply
from receiver.errors import ChallengeRefused, NotVerified, Unavailable
from receiver.ingest.refused import in_our_words
from receiver.ingest.source import VerifiableSource
from receiver.logs.repeats import Repeats
from receiver.logs.safe_text import quoted
from receiver.metrics import metrics
from receiver.verify.request import RawHeaders

log = Repeats(structlog.get_logger(__name__))


def answer_challenge(
    source: VerifiableSource, method: str, target: bytes, headers: RawHeaders, body: bytes, *, verified: bool
) -> SenderReply | None:
    """The answer to a challenge; None for any other request. `target` is the path with the query.

    Raises `ChallengeRefused`, and `Unavailable` for every error of the dialect's code.
    """
    asked_about = [each for each in source.dialect.challenges if each.about(method, verified=verified)]
    if not asked_about:
        return None
    try:
        asked = _asked(source, method, target, headers, body, verified=verified)
        answers = (_checked(challenge.function(asked), source) for challenge in asked_about)
        reply = next((answer for answer in answers if answer is not None), None)
    except ChallengeRefused as refusal:
        metrics.count_challenge(source.name, "refused")
        raise in_our_words(refusal, source) from None
    except BaseException:
        # The dialect's code may raise any error; even SystemExit may affect only this request.
        metrics.count_challenge(source.name, "failed")
        log.exception("a challenge could not be answered", about={"source": source.name})
        raise Unavailable(
            "This cannot be answered now, because of an error of this server. Send it again later."
        ) from None
    if reply is not None:
        metrics.count_challenge(source.name, "answered")
        log.warning("answered a challenge of a sender", about={"source": source.name, "method": method})
    return reply


def answers_unsigned(source: VerifiableSource, target: bytes, headers: RawHeaders, body: bytes) -> bool:
    """Whether a challenge function that runs after verification would answer this request, which is not signed."""
    try:
        asked = _asked(source, "POST", target, headers, body, verified=False)
        functions = [each.function for each in source.dialect.challenges if each.about("POST", verified=True)]
        return any(_checked(function(asked), source) is not None for function in functions)
    except BaseException:
        # The dialect's code may raise any error, and the answer is only a hint.
        return False


def check_signed_text(source: VerifiableSource, body: bytes) -> None:
    """Raises `NotVerified` for a signed body that a challenge function may have signed for a stranger."""
    if is_word(body) and any(each.may_sign_words for each in source.dialect.challenges):
        raise NotVerified(
            "signature_wrong",
            "The body is empty or a single word, and anyone can have such a word signed by a challenge of this source. "
            "So its signature proves nothing: send JSON or a form.",
            final=True,
        )


def _asked(
    source: VerifiableSource, method: str, target: bytes, headers: RawHeaders, body: bytes, *, verified: bool
) -> ChallengeRequest:
    return ChallengeRequest(
        method=method,
        query=_parameters(method, target),
        headers={name.decode("latin-1"): value.strip(b" \t").decode("latin-1") for name, value in headers},
        body=body,
        verified=verified,
        settings=source.settings,
        credentials=source.credentials,
        signs_made_text=callable(getattr(source.dialect.verifier, "signed", None)),
    )


def _parameters(method: str, target: bytes) -> Mapping[str, str]:
    """Parse the query. Raises `ChallengeRefused` if it cannot be parsed, except for a POST.

    A POST whose query cannot be parsed may be a webhook, and only its signature decides: a refusal would lose it.
    """
    try:
        return query_of(target.partition(b"?")[2])
    except ChallengeRefused:
        if method != "POST":
            raise
        return {}


def _checked(answer: object, source: VerifiableSource) -> SenderReply | None:
    if answer is None:
        return None
    if isinstance(answer, SenderReply):
        # Checked anew and as plain values, because the dialect may have changed it, and may have a class of its own.
        return SenderReply(answer.status, answer.body, answer.content_type, dict(answer.headers))
    raise TypeError(
        f"a challenge function of {source.dialect.name} returned {quoted(answer)}, not a SenderReply or None"
    )
