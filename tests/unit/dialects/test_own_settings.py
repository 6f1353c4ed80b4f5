"""Settings of a dialect's own: its model checks them at start, and no message quotes their values."""

from __future__ import annotations

import pytest
from pydantic import BaseModel, SecretStr

from receiver.dialects.dialect import Dialect
from receiver.dialects.sources import build_source
from receiver.errors import ConfigurationError
from receiver.settings.settings import source_settings
from receiver.testing import Webhooks
from receiver.verify.signatures import HmacSha256
from receiver.verify.web_signatures import DetachedJws


class Region(BaseModel):
    region: str
    token: SecretStr | None = None


def build(own: object, model: type[BaseModel] | None = Region):
    dialect = Dialect("shop", verify=HmacSha256(header="X-Signature"), settings=model)
    return build_source(source_settings("shop", {"secrets": ["s"], "settings": own}), {"shop": dialect})


def test_a_dialect_and_its_verifier_get_their_settings_as_the_model():
    source = build({"region": "eu", "token": "hidden"})
    assert source.settings.own == source.credentials.own == Region(region="eu", token=SecretStr("hidden"))
    assert "hidden" not in repr(source)


@pytest.mark.parametrize(
    ("own", "says"),
    [
        ({}, "region: is missing"),
        ({"region": "eu", "regoin": "hidden"}, "regoin: there is no such setting"),
        ({"region": ["hidden"]}, "region: Input should be a valid string"),
    ],
)
def test_settings_that_the_model_refuses_are_reported_without_their_values(own, says):
    with pytest.raises(ConfigurationError, match=r"The settings in \[sources.shop.settings\] are wrong") as refused:
        build(own)
    assert says in str(refused.value)
    assert "hidden" not in str(refused.value)


def test_the_test_kit_gives_the_settings_to_a_verifier_that_reads_them(tmp_path):
    verifier = DetachedJws(header="X-Signature", keys=lambda credentials: f"https://{credentials.own.region}.example")
    kit = Webhooks(tmp_path, {"shop": Dialect("shop", verify=verifier, settings=Region)})
    kit._dialects["shop"].envelope(lambda body: None)
    assert kit.source("shop", settings={"region": "eu"}).credentials.own.region == "eu"
    with pytest.raises(ConfigurationError, match="region: is missing"):
        kit.source("other", dialect="shop")
    kit.close()


def test_a_table_that_the_dialect_does_not_declare_is_refused():
    with pytest.raises(ConfigurationError, match="its dialect shop has no settings of its own: remove it"):
        build({"region": "eu"}, None)
    assert build({}, None).settings.own is None
