"""An error in a function of a user's dialect, whatever its kind, has one answer and affects nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog
from odd_errors import ODD, NamelessType, TextRaises
from pydantic import BaseModel, model_validator
from shopping import NOON

from receiver import (
    Credentials,
    Dialect,
    Envelope,
    Header,
    HmacSha256,
    NotVerified,
    Signature,
    Verified,
    Verifier,
    WebhookRequest,
)
from receiver.dialects.sources import build_source
from receiver.errors import ChallengeRefused, ConfigurationError
from receiver.logs import logs
from receiver.server import sending
from receiver.settings.settings import source_settings
from receiver.testing import Webhooks
from receiver.verify.diagnosis import likely_mistake


class SubclassOfValueError(ValueError):
    pass


#: Errors by their oddity. `KeyboardInterrupt` ends a command, as a person wants it to, so it stands apart.
RAISED: dict[str, Callable[[], BaseException]] = {
    **ODD,
    "a subclass of ValueError": lambda: SubclassOfValueError("no"),
    "KeyError": lambda: KeyError("x"),
    "RecursionError": lambda: RecursionError("deep"),
    "MemoryError": MemoryError,
    "StopIteration": StopIteration,
    "SystemExit": lambda: SystemExit(0),
}
INTERRUPTS: dict[str, Callable[[], BaseException]] = {"KeyboardInterrupt": KeyboardInterrupt}
EVERY = RAISED | INTERRUPTS

GOOD, GUILTY = b'{"type": "a", "good": true}', b'{"type": "a", "good": false}'


class Odd(HmacSha256):
    """A verifier one of whose methods raises for a guilty body, or at once if it gets none."""

    def __init__(self, hook: str, error: Callable[[], Any]) -> None:
        super().__init__(header="X-Signature")
        object.__setattr__(self, "hook", hook)
        object.__setattr__(self, "error", error)

    def _raise_in(self, hook: str, body: bytes = GUILTY) -> None:
        if hook == self.hook and body == GUILTY:
            raise self.error()

    def check(self, credentials: Credentials) -> str | None:
        self._raise_in("check")
        return super().check(credentials)

    def verify(self, request: WebhookRequest, credentials: Credentials) -> Verified:
        self._raise_in("verify", request.body)
        return super().verify(request, credentials)

    def redact(self, plain: bytes, credentials: Credentials) -> bytes:
        self._raise_in("redact", plain)
        return plain

    def prepare(self, body: bytes, credentials: Credentials) -> bytes:
        self._raise_in("prepare", body)
        return body

    def sign(self, request: WebhookRequest, credentials: Credentials) -> tuple[bytes, dict[str, str]]:
        self._raise_in("sign", request.body)
        return super().sign(request, credentials)


def dialect_of(verifier: Verifier, **more: Any) -> Dialect:
    made = Dialect("odd", verify=verifier, **more)

    @made.envelope
    def read(body: dict) -> Envelope:
        return Envelope(event_type="a", entity=None, occurred_at=NOON, data=body)

    return made


def of_the_signed_text(error: Callable[[], BaseException]) -> Dialect:
    def text(request: WebhookRequest) -> bytes:
        if request.body == GUILTY:
            raise error()
        return request.body

    return dialect_of(Signature(text, at=Header("X-Signature", prefix="sha256=")))


def of_the_hint(error: Callable[[], BaseException]) -> Dialect:
    def hint(body: bytes) -> str | None:
        if body == GUILTY:
            raise error()
        return None

    return dialect_of(HmacSha256(header="X-Signature", hint=hint))


def of_the_challenge(error: Callable[[], BaseException]) -> Dialect:
    made = dialect_of(HmacSha256(header="X-Signature"))

    @made.challenge
    def answer(asked: Any) -> None:
        if asked.body == GUILTY:
            raise error()

    return made


#: The functions that run before the ack, and the field of the log line that names the dialect's part.
BEFORE_THE_ACK: dict[str, Callable[[Callable[[], BaseException]], Dialect]] = {
    "verify": lambda error: dialect_of(Odd("verify", error)),
    "redact": lambda error: dialect_of(Odd("redact", error)),
    "the signed text": of_the_signed_text,
    "the hint": of_the_hint,
    "the challenge": of_the_challenge,
}


@pytest.fixture
def logged(capsys) -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """Log as a server does; give a function that returns the lines so far."""
    before = structlog.get_config()
    logs.configure("warning", "json")
    yield lambda: [json.loads(line) for line in capsys.readouterr().err.splitlines() if line.startswith("{")]
    structlog.configure(**before)


def posted(kit: Webhooks, body: bytes, name: str = "odd", *, dialect: str = "odd") -> Any:
    """Post a body to a source of this name, signed without the dialect's own `sign`, which may raise."""
    source = kit.source(name, dialect=dialect, secrets=["one secret", "another"])
    _, headers = HmacSha256(header="X-Signature").sign(WebhookRequest(body), source.credentials)
    return kit.post(name, body, headers)


@pytest.mark.parametrize("hook", BEFORE_THE_ACK)
def test_an_error_before_the_ack_is_a_503_with_a_line_in_the_log(tmp_path, logged, hook):
    # Each error of each hook has a source of its own, because the log counts further lines of a source.
    sources = {f"odd-{list(BEFORE_THE_ACK).index(hook)}-{number}": name for number, name in enumerate(EVERY)}
    kit = Webhooks(tmp_path, {source: BEFORE_THE_ACK[hook](EVERY[name]) for source, name in sources.items()})
    for count, (source, name) in enumerate(sources.items(), 1):
        guilty, good = (posted(kit, body, source, dialect=source) for body in (GUILTY, GOOD))
        assert (guilty.status, guilty.body["error"], good.status) == (503, "unavailable", 200), name
        told = [line for line in logged() if "exception" in line]
        assert [line["source"] for line in told] == [source], name
        assert len(kit.deliveries()) == count, name
    kit.close()


#: The error of the verifier, and the answer to the sender.
@pytest.mark.parametrize(
    ("code", "message", "told"),
    [
        ("signature_wrong", "No.", ("signature_wrong", "No.")),
        ("no_such_code", "No.", ("signature_wrong", "No.")),
        ("a\r\nb: c", "No.", ("signature_wrong", "No.")),
        (None, "No.", ("signature_wrong", "No.")),
        ("signature_missing", TextRaises(), ("signature_missing", "This request is not verified.")),
        ("signature_missing", None, ("signature_missing", "This request is not verified.")),
    ],
)
def test_a_refusal_with_a_code_or_message_of_another_kind_is_a_401_in_our_words(tmp_path, code, message, told):
    kit = Webhooks(tmp_path, {"odd": dialect_of(Odd("verify", lambda: NotVerified(code, message)))})
    answer = posted(kit, GUILTY)
    assert (answer.status, answer.body) == (401, {"error": told[0], "message": told[1]})
    kit.close()


class WithoutSuper(NotVerified):
    def __init__(self, key: str) -> None:
        self.key = key


class OnlyCodeAndMessage(NotVerified):
    code = "signature_malformed"

    def __init__(self, message: str) -> None:
        self.message = message


class AttributesRaise(NotVerified):
    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(f"no {name}")


class NamelessRefusal(NotVerified, metaclass=NamelessType):
    def __init__(self) -> None:
        pass


class AcksItself(NotVerified):
    status = 200


class TooOld(NotVerified):
    status = 403


def with_odd_values() -> NotVerified:
    made = NotVerified("signature_missing", "No.", final=TextRaises())  # type: ignore[arg-type]
    made.names = (object(),)  # type: ignore[assignment]
    made.size, made.retry_after = 2**70, object()  # type: ignore[attr-defined]
    return made


OUR_WORDS = "This request is not verified."

#: Refusals by their oddity, and the status, the code and the message of the answer.
OWN_REFUSALS: dict[str, tuple[Callable[[], NotVerified], tuple[int, str, str]]] = {
    "its class makes nothing": (lambda: WithoutSuper("k"), (401, "signature_wrong", OUR_WORDS)),
    "its class makes the message only": (lambda: OnlyCodeAndMessage("No."), (401, "signature_malformed", "No.")),
    "its attributes raise": (lambda: AttributesRaise("signature_wrong", "No."), (401, "signature_wrong", OUR_WORDS)),
    "its class has no name": (NamelessRefusal, (401, "signature_wrong", OUR_WORDS)),
    "its status is an ack": (lambda: AcksItself("signature_repeated", "No."), (401, "signature_repeated", "No.")),
    "its status is another one": (lambda: TooOld("signature_repeated", "No."), (403, "signature_repeated", "No.")),
    "it has values of all kinds": (with_odd_values, (401, "signature_missing", "No.")),
    "it holds half a pair": (lambda: NotVerified("signature_wrong", "a\ud800b"), (401, "signature_wrong", "a\ufffdb")),
}


@pytest.mark.parametrize("name", OWN_REFUSALS)
def test_a_refusal_of_a_dialect_s_own_kind_has_its_answer_and_leaves_nothing_waiting(tmp_path, name):
    error, expected = OWN_REFUSALS[name]
    kit = Webhooks(tmp_path, {"odd": dialect_of(Odd("verify", error))})
    answer = posted(kit, GUILTY)
    assert (answer.status, answer.body["error"], answer.body["message"]) == expected
    assert kit._endpoint.waiting.bytes == 0
    assert posted(kit, GOOD).status == 200
    kit.close()


class WrongToken(ChallengeRefused):
    def __init__(self, token: str) -> None:
        self.token = token


@pytest.mark.parametrize("method", ["GET", "OPTIONS", "POST"])
def test_a_challenge_refused_by_a_class_of_the_dialect_s_own_is_a_403_in_our_words(tmp_path, method):
    dialect = dialect_of(HmacSha256(header="X-Signature"))

    def refuse(asked: Any) -> None:
        raise WrongToken("k")

    dialect.challenge(refuse, before_verifying=True)
    kit = Webhooks(tmp_path, {"odd": dialect})
    kit.source("odd")
    answer = kit.ask("odd", method)
    assert (answer.status, answer.body) == (
        403,
        {"error": "challenge_refused", "message": "This request is refused."},
    )
    kit.close()


@pytest.mark.parametrize("name", {**RAISED, **INTERRUPTS, **{key: each for key, (each, _) in OWN_REFUSALS.items()}})
def test_the_diagnosis_of_a_wrong_signature_survives_any_error(name):
    refusals = {key: each for key, (each, _) in OWN_REFUSALS.items()}
    verifier = Odd("verify", {**RAISED, **INTERRUPTS, **refusals}[name])
    credentials = source_settings("odd", {"secrets": ["v1,abcd"]}).credentials()
    assert likely_mistake(verifier, WebhookRequest(GUILTY), credentials, {"other": credentials}) is None


# ── the start, and commands ───────────────────────────────────────────────────────────────────────────────────────


def settings_model(error: Callable[[], BaseException]) -> Dialect:
    class OwnSettings(BaseModel):
        @model_validator(mode="before")
        @classmethod
        def refuse(cls, values: Any) -> Any:
            raise error()

    return dialect_of(HmacSha256(header="X-Signature"), settings=OwnSettings)


class CheckedChallenge:
    def __init__(self, error: Callable[[], BaseException]) -> None:
        self.error = error

    def check(self, settings: Any) -> str | None:
        raise self.error()

    def __call__(self, asked: Any) -> None:
        return None


def challenge_with_a_check(error: Callable[[], BaseException]) -> Dialect:
    made = dialect_of(HmacSha256(header="X-Signature"))
    made.challenge(CheckedChallenge(error))
    return made


AT_START: dict[str, tuple[Callable[[Callable[[], BaseException]], Dialect], str]] = {
    "check": (lambda error: dialect_of(Odd("check", error)), "The verifier of odd, asked about the source odd, failed"),
    "the settings model": (settings_model, r"The settings model of odd failed|The settings in .* are wrong"),
    "the check of a challenge": (challenge_with_a_check, "A challenge of odd, asked about the source odd, failed"),
}


@pytest.mark.parametrize("name", RAISED)
@pytest.mark.parametrize("hook", AT_START)
def test_an_error_at_start_is_a_message_that_names_the_part(hook, name):
    made, says = AT_START[hook]
    with pytest.raises(ConfigurationError, match=says):
        build_source(source_settings("odd", {"secrets": ["a secret"]}), {"odd": made(RAISED[name])})


@pytest.mark.parametrize("name", RAISED)
@pytest.mark.parametrize("hook", ["prepare", "sign"])
def test_an_error_of_the_sender_s_side_is_a_message_before_anything_is_sent(hook, name):
    dialect = dialect_of(Odd(hook, RAISED[name]))
    source = build_source(source_settings("odd", {"secrets": ["a secret"]}), {"odd": dialect})
    with pytest.raises(ConfigurationError, match="The verifier of odd failed"):
        sending.send(source, GUILTY, "http://127.0.0.1:1/hooks/odd")


@pytest.mark.parametrize("name", RAISED)
def test_an_error_of_a_compose_function_is_a_message(name):
    dialect = dialect_of(HmacSha256(header="X-Signature"))

    @dialect.compose
    def write(event_type: str, entity_id: str, at: Any, data: Any) -> Any:
        raise RAISED[name]()

    with pytest.raises(ConfigurationError, match=r"can be made from these flags \(.*correct @odd\.compose, or send"):
        dialect.write("a", "1", at=NOON, data=None)
