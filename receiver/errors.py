"""The errors that Hookmirror raises on purpose. Each message says what to do next.

HookmirrorError
├── ConfigurationError           the program does not start
│   ├── WiringError              handlers and dialects do not fit together
│   └── PoolerError              a pooler before PostgreSQL does not keep sessions
├── Refused                      a request that is answered with an error
│   ├── BadRequest        400    a parameter that the API cannot read
│   ├── MalformedRequest  400    bytes that are not HTTP
│   ├── NotVerified       401    signature missing or wrong, body not decryptable, another application's key
│   ├── NotAuthorized     401    the API's token is missing, wrong or expired
│   ├── Forbidden         403    the API's token does not allow it
│   ├── ChallengeRefused  403    a sender's challenge with a wrong token, or one that must not be sent back
│   ├── UnknownSource     404
│   ├── NotFound          404
│   ├── MethodNotAllowed  405
│   ├── RequestTimeout    408    the head of a request took too long to arrive
│   ├── NotEnded          409    a replay of a delivery that is not done
│   ├── BodyExpired       409    a replay of a delivery whose body has expired
│   ├── NotAskable        409    a row whose source cannot be asked for it
│   ├── NotWaiting        409    an attempt requested for a delivery that waits for none
│   ├── KeyUsed           409    an idempotency key that another request has used
│   ├── RunConflict       409    a verb that the run's state forbids: started twice, outdated, another at work
│   ├── ReasonWanted      400    an action on many deliveries without a reason of 3 to 200 characters
│   ├── NotThisFeed       410    a place in the change feed that this database does not have
│   ├── BodyTooLarge      413
│   ├── UrlTooLong        414
│   ├── HeadTooLarge      431    the head of a request, one header, their number, or the trailers of a body
│   ├── SourceAway        502    a source's own API does not answer, or answers in an undocumented form
│   └── Unavailable       503    our own failure: never a 4xx, because senders treat that as final
│       ├── Captured      503    the source only captures what an unknown sender posts
│       └── Limited       503    a limit for strangers: too slow, too much at once, too many connections
├── Unreadable                   authentic, but not what the dialect expects: stored as dead, never lost
├── HandlerError                 a handler used the mirror wrongly
├── DamagedRow                   a stored row that was edited by hand; the message says what repairs it
├── ApiError                     a source's own API refused, or answered in an undocumented form
│   ├── UnsteadyListError        its list changed each time while it was read
│   ├── NoAnswersError           it answers with its list, and about none of many rows
│   └── EndlessListError         its list leads in a circle, or repeats its rows without an end
├── RunTaken                     a run was paused, cancelled or taken over while a step of it was under way
├── CopyError                    a database cannot be copied; the message says what to do
└── Verdict                      raised by a handler to decide how its delivery ends
    ├── Retry                    try it again later
    └── Discard                  do not process it; it is recorded as ignored
"""

from __future__ import annotations

from datetime import timedelta


class HookmirrorError(Exception):
    """The root of every error that Hookmirror raises on purpose."""


class ConfigurationError(HookmirrorError):
    """A setting is missing, unknown or contradictory; the message names the setting, and says what to do."""


class WiringError(ConfigurationError):
    """Dialects and handlers do not fit together; found at start, never at the first webhook."""


class PoolerError(ConfigurationError):
    """A pooler in front of PostgreSQL gives every transaction another session, which loses the settings of ours."""


#: The header of an error answer with the parameters and addresses that the message names in backticks, separated by
#: blanks.
NAMES_HEADER = "Hookmirror-Names"


class Refused(HookmirrorError):
    """A request that gets an error answer: `status`, and the body `{"error": code, "message": …}`."""

    status = 400
    code = "refused"
    #: The setting whose bound the request exceeded; empty if it exceeded none.
    limit = ""
    #: Whether the connection ends after the answer, because the rest of the request is not read.
    ends_connection = False
    #: The parameters and addresses of the API that the message names in backticks. Commands replace them by their own
    #: options and names.
    names: tuple[str, ...] = ()

    def __init__(self, message: str, *, names: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.message = message
        if names:
            self.names = names


class NotVerified(Refused):
    """A body without proof that it comes from the source. The code names the part that is missing or wrong."""

    status = 401

    def __init__(self, code: str, message: str, *, final: bool = False) -> None:
        """`final` says that no other secret would verify the request."""
        super().__init__(message)
        self.code = code
        self.final = final


class BadRequest(Refused):
    """A parameter that cannot be read, or that the address does not know."""

    code = "bad_request"


class MalformedRequest(Refused):
    """The bytes are not HTTP as RFC 9112 defines it."""

    code = "malformed_request"


class NotAuthorized(Refused):
    """The API's token is missing or forged, or has expired."""

    status = 401
    code = "not_authorized"


class Forbidden(Refused):
    """The API's token does not allow this."""

    status = 403
    code = "forbidden"


class ChallengeRefused(Refused):
    """A challenge without the right token or from another origin, or whose value must not be sent back."""

    status = 403
    code = "challenge_refused"


class NotFound(Refused):
    """There is no such delivery, row, table or address."""

    status = 404
    code = "not_found"


class UnknownSource(Refused):
    """The settings have no such source."""

    status = 404
    code = "unknown_source"


class MethodNotAllowed(Refused):
    """The address takes another method."""

    status = 405
    code = "method_not_allowed"


class RequestTimeout(Refused):
    """The head of the request was not complete within `head_timeout`."""

    status = 408
    code = "request_timeout"
    limit = "head_timeout"


class NotEnded(Refused):
    """The delivery has not ended, so it cannot be replayed yet."""

    status = 409
    code = "not_ended"


class BodyExpired(Refused):
    """The delivery's body has expired, so it cannot be replayed."""

    status = 409
    code = "body_expired"


class NotWaiting(Refused):
    """The delivery does not wait for its next attempt, so it cannot be tried now."""

    status = 409
    code = "not_waiting"


class KeyUsed(Refused):
    """Another request has used the idempotency key."""

    status = 409
    code = "key_used"


class RunConflict(Refused):
    """The run's state forbids the verb, its plan is outdated, or another run is at work on the same source."""

    status = 409
    code = "run_conflict"


class ReasonWanted(Refused):
    """The action concerns more than one delivery and has no reason, or its reason is too short or too long."""

    code = "reason_wanted"


class NotThisFeed(Refused):
    """The place in the change feed belongs to another database, or to a state of this database before a restore."""

    status = 410
    code = "not_this_feed"


class BodyTooLarge(Refused):
    """The body is larger than `max_body_bytes`."""

    status = 413
    code = "body_too_large"
    ends_connection = True

    def __init__(self, message: str, *, size: int = 0) -> None:
        """`size` is a lower bound on the bytes of the body."""
        super().__init__(message)
        self.size = size


class UrlTooLong(Refused):
    """The URL is longer than `max_url_bytes`."""

    status = 414
    code = "url_too_long"
    limit = "max_url_bytes"


class HeadTooLarge(Refused):
    """The head, a header, or the text between two pieces of a chunked body exceeds its limit."""

    status = 431
    code = "head_too_large"

    def __init__(self, message: str, *, limit: str) -> None:
        super().__init__(message)
        self.limit = limit


class NotAskable(Refused):
    """The source has no API or address, its dialect cannot ask or write, or the environment allows no calls."""

    status = 409
    code = "not_askable"


class SourceAway(Refused):
    """The source's own API does not answer, or answers in an undocumented form."""

    status = 502
    code = "source_away"


class Unavailable(Refused):
    """The receiver cannot answer now. `retry_after` is the pause before a retry, in whole seconds."""

    status = 503
    code = "unavailable"

    def __init__(self, message: str, *, retry_after: int = 5) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Limited(Unavailable):
    """A limit for strangers ended the request. The sender may retry."""

    code = "limited"
    ends_connection = True


class Captured(Unavailable):
    """The source captures requests until its dialect is written, so its sender is asked to retry."""

    code = "captured"


class Unreadable(HookmirrorError):
    """An authentic body that the dialect cannot read; the message is the reason kept with the delivery."""


class HandlerError(HookmirrorError):
    """A handler asked the mirror for something it cannot do; the message names the column or the value."""


class DamagedRow(HookmirrorError):
    """A row of the mirror that was edited by hand; the message names the row, and says what repairs it."""


class ApiError(HookmirrorError):
    """A source's own API refused, or answered in an undocumented shape."""


class NoAnswersError(ApiError):
    """Raised if a source answers with its list, but about none of the rows that were looked up in several steps."""


class UnsteadyListError(ApiError):
    """A list that changed during each reading, so that it may be incomplete."""


class EndlessListError(ApiError):
    """A list that leads in a circle, or repeats its rows without an end; the message says what to correct."""


class RunTaken(HookmirrorError):
    """The feeder no longer holds the run, which was paused, cancelled or taken over; its step is rolled back."""


class CopyError(HookmirrorError):
    """A database cannot be copied; the message names the table or the row, and says what to do."""


class Verdict(HookmirrorError):
    """Base of the exceptions with which a handler decides the result of its delivery."""


#: The longest wait of `Retry(after=…)`: a longer one is a mistake, and may end beyond the year 9999.
LONGEST_RETRY = timedelta(days=365)


class Retry(Verdict):
    """Try this delivery again: `after` a delay of a year at most, or by default after the usual backoff."""

    def __init__(self, reason: str = "the handler asked for a retry", *, after: timedelta | None = None) -> None:
        super().__init__(reason)
        if after is not None and not isinstance(after, timedelta):
            raise TypeError("Retry(after=…) takes a timedelta")
        self.after = None if after is None else min(max(after, timedelta()), LONGEST_RETRY)


class Discard(Verdict):
    """Do not try this delivery again. It is recorded as ignored, with the reason."""
