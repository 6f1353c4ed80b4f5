"""Sources: dialects are found, credentials are checked, and every wiring mistake is reported at start."""

from __future__ import annotations

import sys
from datetime import UTC, datetime

import pytest

from receiver import Dialect, Envelope, HmacSha256, Unsigned
from receiver.dialects.sources import build_source, build_sources, find_dialects, survey_dialects
from receiver.errors import ConfigurationError, WiringError
from receiver.settings.settings import Settings, SourceSettings

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
    """Make a folder with modules of dialects, like the folder of a settings file."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    for name in ("ownshop", "clash"):
        monkeypatch.delitem(sys.modules, f"module_of_{name}", raising=False)
        (tmp_path / f"module_of_{name}.py").write_text(MODULE.format(name="ownshop"))
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


def test_naming_an_installed_dialect_again_has_no_effect():
    assert find_dialects(["handlers.sigma:sigma"]).keys() == find_dialects().keys()


@pytest.mark.parametrize(
    ("reference", "says"),
    [
        ("no_such_module:shop", "there is no module 'no_such_module'. Write it as \"module:name\", with the module in"),
        ("module_of_ownshop.inner:shop", "there is no module 'module_of_ownshop.inner'. Write it as"),
        ("./module_of_ownshop.py", "there is no module './module_of_ownshop.py'. Write it as"),
        ("", "there is no module ''. Write it as"),
        (
            "module_of_ownshop:absent",
            "it has no `absent`. Name the object made by Dialect(…): module_of_ownshop:dialect",
        ),
        (
            "module_of_ownshop:nothing",
            "its `nothing` is not a Dialect. Name the object made by Dialect(…): module_of_own",
        ),
        ("handlers:shop", 'it has no `shop`, nor any other. Make one there: shop = Dialect("shop", verify=…)'),
    ],
)
def test_a_reference_without_a_dialect_is_refused_with_advice(beside, reference, says):
    with pytest.raises(WiringError) as refused:
        find_dialects([reference], beside=beside)
    assert str(refused.value).startswith(f"The dialect {reference!r} in `dialects` cannot be used: {says}")


@pytest.mark.parametrize(
    ("content", "line", "says"),
    [
        ("import nothing_of_this_name", 1, "ModuleNotFoundError: No module named 'nothing_of_this_name'."),
        ("from receiver import Nothing", 1, "ImportError: cannot import name 'Nothing' from 'receiver'"),
        ("\nshop = = 1", 2, "SyntaxError: invalid syntax."),
        ("def shop():\n    return 1 / 0\n\nshop()", 2, "ZeroDivisionError: division by zero."),
        ("import sys\nsys.exit(3)", 2, "SystemExit: 3."),
        ("raise ValueError('one\\ntwo')", 1, "ValueError: one."),
        ("from handlers.sigma import sigma\nsigma.on('a')(len)", 2, "len is a handler: give it the parameters (event,"),
        (
            "from receiver import MirrorRow\nclass Item(MirrorRow, table=True):\n    __tablename__ = 'products'",
            2,
            "The mirror table Item of failing is named 'products', and there is a table of that name already: give it",
        ),
    ],
)
def test_a_module_that_fails_is_reported_with_file_and_line(beside, content, line, says):
    (beside / "failing.py").write_text(content)
    with pytest.raises(WiringError) as refused:
        find_dialects(["failing:shop"], beside=beside)
    message = f"The dialect 'failing:shop' in `dialects` cannot be used: {beside / 'failing.py'}, line {line}: {says}"
    assert str(refused.value).startswith(message)
    assert "\n" not in str(refused.value)


@pytest.fixture
def installed(beside, monkeypatch):
    """Make a package with an entry point, as pip installs it."""
    about = beside / "hookmirror_acme-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: hookmirror-acme\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[hookmirror.dialects]\nacme = acme_shop:acme\n")
    sys.path.insert(0, str(beside))
    return beside


def test_an_installed_package_without_its_module_is_reported_with_advice(installed):
    with pytest.raises(WiringError) as refused:
        find_dialects()
    assert str(refused.value) == (
        "The dialect 'acme_shop:acme' of the installed package hookmirror-acme cannot be used: there is no module "
        "'acme_shop'. List the module in the package's pyproject.toml, and install it again. If you do without it: "
        "pip uninstall hookmirror-acme."
    )


def test_an_installed_package_that_fails_is_reported_with_file_and_line(installed):
    (installed / "acme_shop.py").write_text("1 / 0")
    with pytest.raises(WiringError, match=r"hookmirror-acme cannot be used: .*acme_shop\.py, line 1: .*pip uninstall"):
        find_dialects()


def test_a_survey_finds_all_dialects_and_all_mistakes(beside):
    dialects, refused = survey_dialects(["absent", "module_of_ownshop", "lost"], beside=beside)
    assert {"ownshop", "sigma"} <= dialects.keys()
    assert ["'absent'" in str(refused[0]), "'lost'" in str(refused[1])] == [True, True]


def test_two_dialects_with_the_same_name_are_refused(beside):
    with pytest.raises(WiringError, match="There are two dialects named ownshop: rename 'module_of_clash' in"):
        find_dialects(["module_of_ownshop", "module_of_clash"], beside=beside)


def test_a_source_has_its_dialect_and_its_credentials():
    settings = Settings(sources={"shop-eu": {"dialect": "shop", "secrets": ["one", "two"]}})
    source = build_sources(settings, {"shop": shop()})["shop-eu"]
    assert (source.name, source.dialect.name) == ("shop-eu", "shop")
    assert [secret.value for secret in source.credentials.secrets] == [b"one", b"two"]


def test_an_unknown_dialect_is_refused_with_the_known_ones():
    with pytest.raises(ConfigurationError, match="The source shop has the unknown dialect `shop`: choose"):
        build_source(SourceSettings(name="shop", secrets=["one"]), {"sigma": shop(), "indexed": shop()})


@pytest.mark.parametrize("written", ["shopify", "Shopify", "vendors.shopify", "vendors.shopify:shopify"])
def test_a_ready_dialect_that_the_settings_do_not_name_is_refused_with_the_lines_to_write(written):
    with pytest.raises(ConfigurationError) as refused:
        build_source(SourceSettings(name="shop-de", dialect=written, secrets=["one"]), {"sigma": shop()})
    assert 'above the first table of the settings, as in dialects = ["vendors.shopify:shopify"]' in str(refused.value)
    assert 'dialect = "shopify" in this source' in str(refused.value)


@pytest.mark.parametrize("written", ["akeneo-events", "akeneo_events", "vendors.akeneo:akeneo_events"])
def test_a_ready_dialect_with_a_hyphen_is_named_as_the_source_has_to_name_it(written):
    with pytest.raises(ConfigurationError, match='write dialect = "akeneo-events" in this source'):
        build_source(SourceSettings(name="pim", dialect=written, secrets=["one"]), {"sigma": shop()})


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
def test_a_source_that_cannot_verify_does_not_start(dialect, settings, advice):
    dialects = {**find_dialects(), "shop": shop()}
    with pytest.raises(ConfigurationError, match=advice):
        build_source(SourceSettings(name=dialect, **settings), dialects)


ENCRYPTED = {"app_key": "key", "secrets": ["x" * 32]}


@pytest.mark.parametrize(
    ("dialect", "settings", "advice"),
    [
        (
            "sigma",
            {"secrets": ["x"], "cipher": "rot13"},
            "`cipher` is for encrypted bodies, and its dialect takes none",
        ),
        (
            "sigma",
            {"secrets": ["x"], "app_key": "key"},
            "`app_key` is for encrypted bodies, and its dialect takes none",
        ),
        ("sigma", {"allow_unsigned": True, "app_key": "key"}, "`app_key` is for encrypted bodies"),
        ("sigma", {"webhook_secrets": {"web_1": "x"}}, "move `webhook_secrets` into `secrets`"),
        ("sticky", ENCRYPTED | {"webhook_secrets": {"web_1": "x" * 32}}, "move `webhook_secrets` into `secrets`"),
        ("sticky", ENCRYPTED | {"allow_unsigned": True}, "`allow_unsigned` has no effect: remove it"),
        ("open", {"allow_unsigned": True, "secrets": ["x"]}, "a secret has no effect: remove it"),
        ("open", {"allow_unsigned": True, "cipher": "none"}, "`cipher` is for encrypted bodies"),
    ],
)
def test_a_setting_without_effect_is_refused(dialect, settings, advice):
    dialects = {**find_dialects(), "open": shop(Unsigned())}
    with pytest.raises(ConfigurationError, match=f"The source {dialect} cannot be listened to: .*{advice}"):
        build_source(SourceSettings(name=dialect, **settings), dialects)


def test_an_unsigned_source_starts_only_with_allow_unsigned():
    unsigned = {"shop": shop(Unsigned())}
    with pytest.raises(ConfigurationError, match="set `allow_unsigned = true`"):
        build_source(SourceSettings(name="shop"), unsigned)
    assert build_source(SourceSettings(name="shop", allow_unsigned=True), unsigned).name == "shop"


def test_a_dialect_that_cannot_work_is_refused_even_if_no_source_uses_it():
    mute = Dialect("mute", verify=HmacSha256(header="X"))
    with pytest.raises(WiringError, match="The dialect mute has no envelope"):
        build_sources(Settings(), {"mute": mute})


def test_two_sources_may_share_a_dialect():
    tables = {name: {"dialect": "shop", "secrets": [name]} for name in ("shop-eu", "shop-us")}
    sources = build_sources(Settings(sources=tables), {"shop": shop()})
    assert sources["shop-eu"].dialect is sources["shop-us"].dialect
    assert sources["shop-eu"].credentials != sources["shop-us"].credentials


def test_a_module_that_failed_is_not_imported_again_for_another_dialect(beside):
    once = "from pathlib import Path\nPath(__file__).with_suffix('.once').touch(exist_ok=False)\n"
    (beside / "halfway.py").write_text(f"{once}1 / 0")
    _, refused = survey_dialects(["halfway:one", "halfway:other"], beside=beside)
    assert [str(each).partition("cannot be used: ")[2] for each in refused] == [
        f"{beside / 'halfway.py'}, line 3: ZeroDivisionError: division by zero."
    ]


def test_a_module_s_name_need_not_be_valid_in_an_import_statement(beside):
    (beside / "own-shop.py").write_text(MODULE.format(name="ownshop"))
    assert "ownshop" in find_dialects(["own-shop:ownshop"], beside=beside)
