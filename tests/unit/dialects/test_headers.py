"""The request headers that a dialect keeps, and those that it must not keep."""

from __future__ import annotations

import pytest

from receiver.dialects.dialect import Dialect
from receiver.dialects.headers import USUAL_HEADERS
from receiver.errors import WiringError
from receiver.verify.signatures import HmacSha256


def dialect(*names, header: str = "X-Shop-Signature") -> Dialect:
    return Dialect("shop", verify=HmacSha256(header=header), keep_headers=names)


def test_a_dialect_keeps_the_usual_headers_its_signature_s_and_those_that_it_names():
    kept = dialect("X-Shop-Event").kept_headers
    assert set(kept.values()) == {*USUAL_HEADERS, "x-shop-signature", "x-shop-event"}
    assert all(name == text.encode() for name, text in kept.items())


@pytest.mark.parametrize("name", ["Authorization", "cookie", "Proxy-Authorization", "X-Api-Key"])
def test_a_header_that_carries_a_secret_cannot_be_kept(name: str):
    with pytest.raises(WiringError, match=f"holds {name}, which carries a secret"):
        dialect(name)


@pytest.mark.parametrize("name", ["", "two words", "a:b", "ä", "line\nend", b"x-event", None])
def test_a_name_that_no_header_can_have_is_refused(name):
    with pytest.raises(WiringError, match="is not a header's name"):
        dialect(name)


def test_a_single_name_instead_of_a_list_is_refused():
    with pytest.raises(WiringError, match=r"is text: write a list of names, \['X-Event'\]"):
        Dialect("shop", verify=HmacSha256(header="X"), keep_headers="X-Event")


def test_a_signature_in_a_header_with_secrets_elsewhere_verifies_and_is_not_kept():
    assert set(dialect(header="Authorization").kept_headers.values()) == {*USUAL_HEADERS}
