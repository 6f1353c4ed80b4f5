"""Sources: found dialects, checked credentials, and every wrong wiring named at start."""

from __future__ import annotations

import sys
from datetime import UTC, datetime

import pytest

from receiver import Dialect, Envelope, HmacSha256, Unsigned
from receiver.errors import ConfigurationError, WiringError
from receiver.settings import Settings, SourceSettings
from receiver.sources import build_source, build_sources, find_dialects

MODULE = """
from receiver import Dialect, Envelope, HmacSha256
from datetime import UTC, datetime

dialect = Dialect("{name}", verify=HmacSha256(header="X-Webhook-Signature"))
{name} = dialect
nothing = 5

@dialect.envelope
def read(body: dict) -> Envelope:
    return Envelope(event_type=body["type"], entity=None, occurred_at=datetime(2026, 1, 1, tzinfo=UTC), data=None)
"""


@pytest.fixture
def beside(tmp_path, monkeypatch):
    """A folder with modules of dialects, as beside a settings file."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    for name in ("ownshop", "clash"):
        monkeypatch.delitem(sys.modules, f"module_of_{name}", raising=False)
        (tmp_path / f"module_of_{name}.py").write_text(MODULE.format(name="ownshop"))
    (tmp_path / "module_of_errors.py").write_text("import nothing_of_this_name\n")
    return tmp_path


def shop(verify=None):
    dialect = Dialect("shop", verify=verify or HmacSha256(header="X-Webhook-Signature"))
    at = datetime(2026, 1, 1, tzinfo=UTC)
    dialect.envelope(lambda body: Envelope(event_type=body["type"], entity=None, occurred_at=at, data=None))
    return dialect


def test_the_dialects_of_installed_packages_are_found_by_name():
    found = find_dialects()
    assert {"sigma", "indexed", "iimmpact", "sticky"} <= found.keys()
    assert all(dialect.name == name for name, dialect in found.items())


@pytest.mark.parametrize("reference", ["module_of_ownshop:ownshop", "module_of_ownshop"])
def test_a_dialect_beside_the_settings_file_is_found(beside, reference):
    assert "ownshop" in find_dialects([reference], beside=beside)


def test_naming_an_installed_dialect_again_does_no_harm():
    assert find_dialects(["handlers.sigma:sigma"]).keys() == find_dialects().keys()


@pytest.mark.parametrize(
    "reference", ["no_such_module:shop", "module_of_ownshop:absent", "module_of_errors:dialect", "handlers:shop"]
)
def test_a_dialect_that_cannot_be_imported_is_named_with_how_to_write_it(beside, reference):
    with pytest.raises(WiringError, match=f'"?{reference}.* cannot be imported .*write it as "module:name"'):
        find_dialects([reference], beside=beside)


def test_what_is_no_dialect_is_refused(beside):
    with pytest.raises(WiringError, match=r"'module_of_ownshop:nothing' is no Dialect: name the object made by"):
        find_dialects(["module_of_ownshop:nothing"], beside=beside)


def test_two_dialects_of_one_name_are_refused(beside):
    with pytest.raises(WiringError, match="There are two dialects named ownshop: rename the one in module_of_clash"):
        find_dialects(["module_of_ownshop", "module_of_clash"], beside=beside)


def test_a_source_has_its_dialect_and_its_credentials():
    settings = Settings(sources={"shop-eu": {"dialect": "shop", "secrets": ["one", "two"]}})
    source = build_sources(settings, {"shop": shop()})["shop-eu"]
    assert (source.name, source.dialect.name) == ("shop-eu", "shop")
    assert [secret.value for secret in source.credentials.secrets] == [b"one", b"two"]


def test_an_unknown_dialect_is_named_with_those_there_are():
    with pytest.raises(ConfigurationError, match="The source shop speaks `shop`, which is no dialect here: choose one"):
        build_source(SourceSettings(name="shop", secrets=["one"]), {"sigma": shop(), "indexed": shop()})


@pytest.mark.parametrize(
    ("dialect", "settings", "advice"),
    [
        ("shop", {}, r"shop cannot be listened to: it has no secret, .*set `secrets ="),
        ("sigma", {}, r"sigma cannot be listened to: it has no secret"),
        ("iimmpact", {}, "it has no secret"),
        ("indexed", {}, "it has no secret"),
        ("sticky", {"secrets": ["x" * 32]}, "app_key"),
        ("sticky", {"app_key": "key"}, "secret"),
        ("sticky", {"app_key": "key", "secrets": ["too short"]}, "32"),
        ("sticky", {"app_key": "key", "secrets": ["x" * 32], "cipher": "rot13"}, "rot13"),
    ],
)
def test_a_source_without_what_verifies_it_does_not_start(dialect, settings, advice):
    dialects = {**find_dialects(), "shop": shop()}
    with pytest.raises(ConfigurationError, match=advice):
        build_source(SourceSettings(name=dialect, **settings), dialects)


def test_an_unsigned_source_starts_only_by_its_setting():
    unsigned = {"shop": shop(Unsigned())}
    with pytest.raises(ConfigurationError, match="set `allow_unsigned = true`"):
        build_source(SourceSettings(name="shop"), unsigned)
    assert build_source(SourceSettings(name="shop", allow_unsigned=True), unsigned).name == "shop"


def test_a_dialect_that_cannot_work_is_refused_although_no_source_speaks_it():
    mute = Dialect("mute", verify=HmacSha256(header="X"))
    with pytest.raises(WiringError, match="The dialect mute has no envelope"):
        build_sources(Settings(), {"mute": mute})


def test_two_sources_may_share_a_dialect():
    tables = {name: {"dialect": "shop", "secrets": [name]} for name in ("shop-eu", "shop-us")}
    sources = build_sources(Settings(sources=tables), {"shop": shop()})
    assert sources["shop-eu"].dialect is sources["shop-us"].dialect
    assert sources["shop-eu"].credentials != sources["shop-us"].credentials
