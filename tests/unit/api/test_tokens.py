"""Tokens of the API: what they allow, when they end, and that no other text is accepted as one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from itsdangerous import URLSafeSerializer

from examples import examples
from receiver.api.tokens import SALT, Scope, Tokens
from receiver.errors import ConfigurationError, Forbidden, NotAuthorized

NOON = datetime(2026, 3, 8, 12, tzinfo=UTC)
TOKENS = Tokens(["key-of-these-tests"])
READ, OPERATE = (TOKENS.issue(scope, now=NOON, lifetime=timedelta(hours=1)) for scope in (Scope.READ, Scope.OPERATE))


def check(header, wanted=Scope.READ, *, now=NOON, tokens=TOKENS):
    tokens.check(header, wanted, now=now)


@pytest.mark.parametrize(("token", "wanted"), [(READ, Scope.READ), (OPERATE, Scope.READ), (OPERATE, Scope.OPERATE)])
def test_a_token_allows_its_scope_and_operate_includes_read(token, wanted):
    check(f"Bearer {token}", wanted)


@pytest.mark.parametrize("header", ["bearer {}", "BEARER {}", "Bearer   {} ", "\t Bearer {}\t "])
def test_the_kind_is_read_in_any_case_and_with_any_blanks(header):
    check(header.format(READ))


def test_a_token_names_the_person_who_acts_with_it():
    issued = TOKENS.issue(Scope.READ, now=NOON, lifetime=timedelta(hours=1), name="ops-1")
    assert TOKENS.check(f"Bearer {issued}", Scope.READ, now=NOON).name == "ops-1"


def test_a_token_without_a_name_acts_as_api():
    assert TOKENS.check(f"Bearer {READ}", Scope.READ, now=NOON).name == "api"


@pytest.mark.parametrize("name", [" ops", "ops\n1", "\x1b[2J", "x" * 65, "ops\u202e1"])
def test_a_name_that_cannot_be_read_is_refused(name):
    with pytest.raises(ConfigurationError, match="such as ops-1"):
        TOKENS.issue(Scope.READ, now=NOON, lifetime=timedelta(hours=1), name=name)


def test_a_read_token_does_not_operate():
    with pytest.raises(Forbidden, match="hookmirror token --scope operate"):
        check(f"Bearer {READ}", Scope.OPERATE)


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", READ, f"Basic {READ}"])
def test_without_a_bearer_token_the_answer_says_how_to_get_one(header):
    with pytest.raises(NotAuthorized, match="hookmirror token --scope read"):
        check(header)


def test_a_token_ends_at_its_time_and_not_before():
    check(f"Bearer {READ}", now=NOON + timedelta(minutes=59, seconds=59))
    with pytest.raises(NotAuthorized, match="has expired"):
        check(f"Bearer {READ}", now=NOON + timedelta(hours=1))


def test_a_token_of_another_key_is_refused():
    with pytest.raises(NotAuthorized, match="not valid here"):
        check(f"Bearer {READ}", tokens=Tokens(["another-key"]))


def test_while_a_key_is_replaced_tokens_of_both_are_valid_and_the_newest_signs():
    both = Tokens(["key-of-these-tests", "newest-key"])
    check(f"Bearer {READ}", tokens=both)
    issued = both.issue(Scope.READ, now=NOON, lifetime=timedelta(hours=1))
    check(f"Bearer {issued}", tokens=Tokens(["newest-key"]))


@pytest.mark.parametrize(
    "content",
    [{}, [], "read", None, {"scope": "admin", "until": 9e9}, {"scope": "read"}, {"scope": "read", "until": "soon"}],
)
def test_another_text_signed_with_our_key_is_refused(content):
    token = URLSafeSerializer(["key-of-these-tests"], salt=SALT).dumps(content)
    with pytest.raises(NotAuthorized, match="not valid here"):
        check(f"Bearer {token}")


def test_a_signature_with_another_salt_is_refused():
    token = URLSafeSerializer(["key-of-these-tests"]).dumps({"scope": "operate", "until": 9_999_999_999})
    with pytest.raises(NotAuthorized, match="not valid here"):
        check(f"Bearer {token}")


SIGNED = OPERATE.rindex(".")


@examples(60)
@given(st.text(st.characters(max_codepoint=0x2FF)), st.integers(0, SIGNED))
def test_no_header_of_a_stranger_is_accepted_or_causes_an_error(text, position):
    """Only the signed part is changed, because base64 can write the same signature in several ways."""
    spoiled = OPERATE[:position] + text + OPERATE[position + 1 :]
    for header in (text, f"Bearer {text}", f"Bearer {spoiled}"):
        if header != f"Bearer {OPERATE}":
            with pytest.raises(NotAuthorized):
                check(header)
