"""Requests to a source's own API, for a delivery that is hydrated or for a walk through a list.

`fetch` and `post` send one request, and their errors decide what happens to the delivery. `fetch_patiently` and
`patiently` are for walks, and repeat a request that fails. `wait_for_api` is for answers that are older than the event.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from time import monotonic
from typing import Any, TypeVar

import httpx
import stamina
import structlog
from pydantic import BaseModel, SecretStr, ValidationError
from pydantic_core import ErrorDetails
from stamina.instrumentation import RetryDetails, RetryHook, get_on_retry_hooks, set_on_retry_hooks

from receiver import ApiError, Event, MirrorRow, Retry, SourceSettings, Unreadable
from receiver.codec import decode
from receiver.errors import ConfigurationError
from receiver.http_calls import no_cookies
from receiver.http_urls import quoted_part
from receiver.logs.safe_text import quoted, sentence

log = structlog.get_logger(__name__)

Model = TypeVar("Model", bound=BaseModel)
Answered = TypeVar("Answered")

TIMEOUT = 10.0  #: seconds, for connecting and for each read
LONGEST_IDLE = 3.0  #: seconds for which an idle connection is kept; many servers, and httpx by default, end it after 5
LONGEST_ANSWER = 30.0  #: seconds from the request to the end of its answer
MOST_ANSWERED = 16 * 1024 * 1024  #: bytes of one answer
RETRY_TIMEOUT = timedelta(minutes=2)  #: the time for which a walk repeats one request
ATTEMPTS = 5  #: the most attempts of one request in a walk
MOST_MISTAKES = 3  #: the most mistakes of an answer that a message names
LONGEST_WAIT = timedelta(days=1)  #: a longer Retry-After is cut to this

#: The wait before an API that is behind its event is asked again. Each later wait is this one plus three times the time
#: waited so far: the API is asked after 5 and 25 seconds, and a last time when the event's `api_lag` is over.
FIRST_WAIT = timedelta(seconds=5)


class NotFoundError(ApiError):
    """The API answered 404. `is_json` says whether the answer is a JSON object, `said` is the error text in it."""

    def __init__(self, message: str, answer: dict[str, Any] | None) -> None:
        super().__init__(message)
        self.is_json = answer is not None
        self.said = _text_in(answer, "message") or _text_in(answer, "title")
        self._answer = answer

    def has_code(self, code: str, *path: str) -> bool:
        """Whether the answer has this code at this path, where the API writes its codes and a proxy does not."""
        return self.text_at(*path) == code

    def text_at(self, *path: str) -> str | None:
        """Return the text at this path of the answer; None without one."""
        inner: Any = self._answer
        for name in path[:-1]:
            inner = inner.get(name) if isinstance(inner, dict) else None
        return _text_in(inner, path[-1])


def client(
    source: SourceSettings, *, auth: httpx.Auth | None = None, headers: dict[str, str] | None = None
) -> httpx.Client:
    """Make a client whose paths are relative to the source's `api_url`."""
    # A request that crosses with the server's end of the connection fails.
    limits = httpx.Limits(max_connections=100, max_keepalive_connections=20, keepalive_expiry=LONGEST_IDLE)
    return httpx.Client(
        base_url=source.api_url or "",
        auth=auth,
        headers=headers,
        cookies=no_cookies(),
        timeout=TIMEOUT,
        limits=limits,
    )


def required(source: SourceSettings, name: str, value: SecretStr | None) -> str:
    """Return the text of a required setting. Raises `ConfigurationError` if it is not set."""
    if value is None or not value.get_secret_value():
        raise ConfigurationError(
            f"The source {source.name} has an api_url but no {name}: set both, or remove api_url to do without the API."
        )
    return value.get_secret_value()


def segment(text: str) -> str:
    """Quote an id as one segment of a path, also an id of dots, which would lead to another address of the API."""
    return quoted_part(text)


def fetch(api: httpx.Client, path: str, **query: str | int) -> Any:
    """Send one GET, and return the JSON of its answer, with fractions as Decimal.

    Raises `NotFoundError` for 404, `Retry` for temporary failures (429, 5xx, no connection), and `ApiError` for others.
    """
    return _answer(api, api.build_request("GET", path, params=query or None), path)


def post(api: httpx.Client, path: str, question: Any) -> Any:
    """Post JSON, as GraphQL needs it, and return the JSON of the answer. Raises the same errors as `fetch`."""
    return _answer(api, api.build_request("POST", path, json=question), path)


def _answer(api: httpx.Client, request: httpx.Request, path: str) -> Any:
    try:
        response, content = _ask(api, request, path)
    except httpx.HTTPError as error:
        raise Retry(f"{path} of the source's API cannot be reached: {type(error).__name__}.") from error
    if response.status_code == 429 or response.status_code >= 500:
        raise Retry(f"{path} of the source's API answered {response.status_code}.", after=_wait(response))
    _refuse(path, response.status_code, content)
    try:
        return decode(content)
    except Unreadable:
        raise ApiError(f"{path} of the source's API answered with {_instead_of_json(response)}") from None


def _ask(api: httpx.Client, request: httpx.Request, path: str) -> tuple[httpx.Response, bytes]:
    """Send a request, and read its answer within bounds of size and time. Raises `ApiError` or `Retry` beyond them."""
    end = monotonic() + LONGEST_ANSWER
    content = bytearray()
    response = api.send(request, stream=True)
    with closing(response):
        for part in response.iter_bytes():
            content += part
            if len(content) > MOST_ANSWERED:
                most = MOST_ANSWERED // 1024**2
                raise ApiError(f"{path} of the source's API answered with more than {most} MiB: check api_url.")
            if monotonic() > end:
                raise Retry(f"{path} of the source's API was still answering after {LONGEST_ANSWER:.0f} seconds.")
    return response, bytes(content)


def fetch_patiently(api: httpx.Client, path: str, **query: str | int) -> Any:
    """Fetch as `fetch` does, and repeat after temporary failures. Raises only `NotFoundError` and `ApiError`."""
    return patiently(lambda: fetch(api, path, **query))


def patiently(ask: Callable[[], Answered]) -> Answered:
    """Call `ask`, and repeat it after each `Retry`, within bounds. Raises `ApiError` instead of the last `Retry`."""
    _add_hook()
    try:
        return stamina.retry(on=_backoff, attempts=ATTEMPTS, timeout=RETRY_TIMEOUT)(_ask_once)(ask)
    except Retry as error:
        is_away = isinstance(error.__cause__, httpx.HTTPError)
        check = ": check `api_url` in the settings of the source" if is_away else ""
        raise ApiError(f"{error} Repeated attempts failed{check}.") from error


def _ask_once(ask: Callable[[], Answered]) -> Answered:
    return ask()


#: The name by which stamina's hooks know the repetitions of `patiently`.
OWN_NAME = f"{_ask_once.__module__}.{_ask_once.__qualname__}"


def _add_hook() -> None:
    """Let `_tell` log our repetitions, and the hooks that are set, which all code of the process shares, the others."""
    hooks = get_on_retry_hooks()
    if _tell not in hooks:
        set_on_retry_hooks([_tell, *map(_except_ours, hooks)])


def _except_ours(hook: RetryHook) -> RetryHook:
    return lambda details: None if details.name == OWN_NAME else hook(details)


def _tell(details: RetryDetails) -> None:
    """Log a repetition in our words. The line of stamina is a warning, which commands print, too, and no sentence."""
    if details.name != OWN_NAME:
        return
    wait, reason = round(details.wait_for, 1), str(details.caused_by)
    log.info("a call of a source's API failed; trying again", reason=reason, seconds=wait)


def wait_for_api(event: Event[Any], row: MirrorRow | None, what: str) -> None:
    """Raise `Retry` while the API may be behind the event. If it returns, use the API's answer as it is.

    Many APIs answer from a copy that lags behind. `row` is the mirror's row: if it has newer news than this event, a
    later answer of the API was applied already, and waiting is unnecessary. `what` says why the answer looks old.
    """
    is_overtaken = row is not None and row.changed_at > event.occurred_at
    if is_overtaken or event.is_last or event.waited >= event.api_lag:
        return
    wait = max(FIRST_WAIT + 3 * event.waited, FIRST_WAIT)
    raise Retry(f"The source's API is behind its event: {what}.", after=min(wait, event.api_lag - event.waited))


def shaped(model: type[Model], answer: Any, path: str) -> Model:
    """Validate an answer with the model. Raises `ApiError` if it does not fit."""
    try:
        return model.model_validate(answer)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False)[:MOST_MISTAKES]
        wrong = "; ".join(_mistake(each) for each in found)
        raise ApiError(f"{path} of the source's API answered in an undocumented shape: {sentence(wrong)}") from None


def _mistake(found: ErrorDetails) -> str:
    """Describe the mistake at one place of an answer, such as "`data.items.0.sku` is missing"."""
    place = f"`{'.'.join(map(str, found['loc']))}`" if found["loc"] else "the answer"
    if found["type"] == "missing":
        return f"{place} is missing"
    if found["type"] in ("model_type", "dict_type"):
        return f"{place} should be a JSON object, not {quoted(found['input'])}"
    said = found["msg"].removeprefix("Input ")
    return f"{place} {said}, not {quoted(found['input'])}" if said.startswith("should ") else f"{place}: {said}"


def of_id(wanted: str, found: str | None, answer: Answered, path: str) -> Answered:
    """Return the answer about the wanted id. Raises `ApiError` for an answer about another one."""
    if found != wanted:
        raise ApiError(f"{path} of the source's API answered with the object of another id.")
    return answer


def _refuse(path: str, status: int, content: bytes) -> None:
    if status in (401, 403):
        raise ApiError(
            f"{path} of the source's API answered {status}: check api_key and api_secret, and what they may read."
        )
    if status == 404:
        raise NotFoundError(f"{path} of the source's API answered 404: check api_url.", _object(content))
    if not 200 <= status < 300:
        raise ApiError(f"{path} of the source's API answered {status} ({_error_code(content) or 'no error code'}).")


def _instead_of_json(response: httpx.Response) -> str:
    if "html" in response.headers.get("content-type", "").lower():
        return (
            "a page for browsers instead of JSON, such as one to sign in or of maintenance: check api_url, and what "
            "stands in front of the API."
        )
    return "something other than JSON: check api_url."


def _error_code(content: bytes) -> str | None:
    """Find the code of an error, in the member `error`, `error.code` or `code`."""
    answer = _object(content)
    error = (answer or {}).get("error")
    return _text_in(answer, "error") or _text_in(error, "code") or _text_in(answer, "code")


def _text_in(document: Any, name: str) -> str | None:
    value = document.get(name) if isinstance(document, dict) else None
    return value if isinstance(value, str) else None


def _object(content: bytes) -> dict[str, Any] | None:
    """Parse the answer as a JSON object; None for anything else."""
    try:
        answer = decode(content)
    except Unreadable:
        return None
    return answer if isinstance(answer, dict) else None


def _wait(response: httpx.Response) -> timedelta | None:
    """Read Retry-After in seconds. A date is ignored, because it depends on two clocks."""
    text = response.headers.get("retry-after", "").strip()
    if not (text.isascii() and text.isdecimal()):
        return None
    return min(timedelta(seconds=int(text[:9])), LONGEST_WAIT)


def _backoff(error: Exception) -> bool | timedelta:
    if not isinstance(error, Retry):
        return False
    if error.after is None:
        return True
    # stamina does not compare a wait with its timeout, so a wait that is longer has to be refused here.
    return error.after if timedelta() < error.after <= RETRY_TIMEOUT else error.after <= RETRY_TIMEOUT
