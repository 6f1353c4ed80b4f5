"""Settings: every wrong one is reported with advice, and no secret is ever shown."""

from __future__ import annotations

import os
import re
from datetime import timedelta

import pytest
from pydantic import ValidationError

from receiver.errors import ConfigurationError
from receiver.settings.settings import Settings, SourceSettings, load

SECRETS = {
    "secrets": ["first-secret-value", "second-secret-value"],
    "webhook_secrets": {"web_1": "record-secret-value"},
    "app_key": "app-key-secret-value",
    "api_key": "api-key-secret-value",
    "api_secret": "api-secret-secret-value",
}


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch):
    for name in [name for name in os.environ if name.upper().startswith("HOOKMIRROR_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def read(tmp_path, monkeypatch):
    """Read settings from the lines of a file."""

    def read(*lines):
        (tmp_path / "hookmirror.toml").write_text("\n".join(lines), "utf-8")
        monkeypatch.setenv("HOOKMIRROR_CONFIG", str(tmp_path / "hookmirror.toml"))
        return load()

    return read


def refusal(read, *lines):
    with pytest.raises(ConfigurationError) as refused:
        read(*lines)
    return str(refused.value)


# ── their places ──────────────────────────────────────────────────────────────────────────────────────────────


def test_without_a_file_the_defaults_hold():
    settings = load()
    assert (settings.database_url, settings.sources) == ("sqlite:///hookmirror.db", {})


def test_a_file_is_read(read):
    assert read('database_url = "sqlite:///other.db"', "batch_size = 7").batch_size == 7


def test_a_file_may_be_named_by_the_caller(tmp_path):
    (tmp_path / "mine.toml").write_text("batch_size = 9")
    assert load(tmp_path / "mine.toml").batch_size == 9


def test_the_environment_wins_over_the_file(read, monkeypatch):
    monkeypatch.setenv("HOOKMIRROR_BATCH_SIZE", "8")
    assert read("batch_size = 7").batch_size == 8


def test_a_source_uses_the_dialect_of_its_name_by_default(read):
    sources = read('[sources.sigma]\n[sources.sigma-us]\ndialect = "sigma"').sources
    assert [(name, source.name, source.dialect) for name, source in sources.items()] == [
        ("sigma", "sigma", "sigma"),
        ("sigma-us", "sigma-us", "sigma"),
    ]


def test_values_for_the_parts_of_the_program_are_derived(read):
    settings = read("max_attempts = 3", "lease_seconds = 90")
    assert (settings.max_attempts, settings.lease) == (3, timedelta(seconds=90))


# ── mistakes ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_missing_file_is_reported_with_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setenv("HOOKMIRROR_CONFIG", str(tmp_path / "absent.toml"))
    with pytest.raises(ConfigurationError, match=r"HOOKMIRROR_CONFIG names '.*absent\.toml', .*create it, or correct"):
        load()


def test_a_folder_instead_of_the_file_is_refused_with_a_file_in_it(tmp_path):
    with pytest.raises(ConfigurationError, match=r"which is a folder: name a file, such as '.*/hookmirror\.toml'\."):
        load(tmp_path)


@pytest.mark.parametrize("content", [b"batch_size = ", b"\xff\xfe", b"[sources.a]\n[sources.a]", b"a = 1\na = 2"])
def test_a_file_that_is_not_toml_is_reported_as_such(tmp_path, content):
    (tmp_path / "hookmirror.toml").write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"hookmirror\.toml is not TOML"):
        load(tmp_path / "hookmirror.toml")


def test_an_unknown_key_in_the_file_is_reported(read):
    assert "wrong: batch_sise: there is no such setting (perhaps `batch_size`). docs" in refusal(read, "batch_sise = 7")


def test_an_unknown_key_of_a_source_is_reported_with_its_source(read):
    message = refusal(read, "[sources.sigma]", 'secret = "one"')
    assert "sources.sigma.secret: there is no such setting (perhaps `secrets`). docs" in message


def test_an_unknown_key_unlike_all_others_is_reported_without_a_proposal(read):
    assert "wrong: colour: there is no such setting. docs" in refusal(read, "colour = 7")


@pytest.mark.parametrize("name", ["HOOKMIRROR_BATCH_SISE", "HOOKMIRROR_", "HOOKMIRROR_SECRETS"])
def test_an_unknown_variable_is_reported_with_advice(monkeypatch, name):
    monkeypatch.setenv(name, "7")
    with pytest.raises(ConfigurationError, match=f"^{name} is set in the environment and is not a setting: correct"):
        load()


def test_an_unknown_variable_is_reported_with_the_closest_name(monkeypatch):
    monkeypatch.setenv("HOOKMIRROR_BATCH_SISE", "7")
    with pytest.raises(ConfigurationError, match=r"correct its name \(perhaps `HOOKMIRROR_BATCH_SIZE`\)\. docs"):
        load()


OF_ALL_KINDS = ("7", "-1", "1.5", "nan", "true", '"text"', "[]", "[7]", "{}", "{ a = 7 }", "2026-01-01")


@pytest.mark.parametrize(
    "setting", [*Settings.model_fields, *(f"sources.sigma.{name}" for name in SourceSettings.model_fields)]
)
def test_the_message_about_any_value_of_a_setting_is_in_our_words(read, setting):
    told = []
    for value in OF_ALL_KINDS:
        try:
            read(f"{setting} = {value}")
        except ConfigurationError as error:
            told.append(str(error))
    assert not re.search("Input|Value error|pars|valid|cannot have this value", " ".join(told))


def test_a_single_secret_is_answered_with_how_to_write_a_list_and_is_not_shown(read):
    message = refusal(read, "[sources.sigma]", 'secrets = "one-value"')
    assert 'sources.sigma.secrets: takes a list: write secrets = ["…"]' in message
    assert "one-value" not in message


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("max_body_bytes = 1023", "must be at least 1024"),
        ("max_waiting_bytes = 1", "must be at least 1048576"),
        ("body_timeout = 0", "must be more than 0"),
        ("batch_size = 0", "must be at least 1"),
        ("lease_seconds = inf", "must be at most 86400"),
        ("batch_size = 1001", "must be at most 1000"),
        ('batch_size = "many"', "takes a whole number"),
        ("lease_seconds = 0.5", "must be at least 1"),
        ("max_attempts = 0", "must be at least 1"),
        ("max_attempts = 101", "must be at most 100"),
        ("body_retention_days = 0", "must be at least 1"),
        ("dedup_retention_days = 0", "must be at least 1"),
        ("max_backlog_seconds = 0", "must be more than 0"),
        ('log_level = "loud"', "takes 'debug', 'info', 'warning' or 'error'"),
        ('log_format = "xml"', "takes 'console' or 'json'"),
        ('dialects = "one"', 'takes a list: write dialects = ["…"]'),
        ("database_url = 7", "takes text in quotes"),
        ("secret_key = 7", "takes text in quotes"),
        ("sources = 7", "takes a table"),
        ("sources.sigma = 7", "takes a table"),
    ],
)
def test_a_wrong_value_is_reported_with_what_is_valid(read, line, reason):
    message = refusal(read, line)
    assert f"{line.partition(' =')[0]}: " in message
    assert reason in message
    assert "docs/operations.md" in message


@pytest.mark.parametrize("value", ["many", "0"])
def test_a_wrong_value_in_the_environment_is_reported(monkeypatch, value):
    monkeypatch.setenv("HOOKMIRROR_BATCH_SIZE", value)
    with pytest.raises(ConfigurationError, match="The settings in the environment are wrong: HOOKMIRROR_BATCH_SIZE: "):
        load()


def test_a_wrong_value_in_the_environment_is_not_attributed_to_the_file(read, monkeypatch):
    monkeypatch.setenv("HOOKMIRROR_BATCH_SIZE", "0")
    message = refusal(read, "max_attempts = 5")
    assert message.startswith("The settings in the environment are wrong: HOOKMIRROR_BATCH_SIZE: ")


def test_mistakes_in_both_places_are_reported_for_both(read, monkeypatch, tmp_path):
    monkeypatch.setenv("HOOKMIRROR_BATCH_SIZE", "0")
    message = refusal(read, "max_attempts = 0")
    assert message.startswith(f"The settings in the environment and {tmp_path / 'hookmirror.toml'} are wrong: ")


def test_a_setting_of_the_installation_in_the_table_of_a_source_is_answered_with_its_place(read):
    message = refusal(read, "[sources.sigma]", "batch_size = 7")
    assert "sources.sigma.batch_size: is a setting of the whole installation: move it above the first table" in message


def test_a_setting_of_a_source_outside_its_table_is_answered_with_its_place(read):
    message = refusal(read, 'api_key = "k"')
    assert "api_key: is a setting of one source: move it into its table [sources.<name>]" in message


def test_a_list_in_the_environment_that_is_not_json_is_reported(monkeypatch):
    monkeypatch.setenv("HOOKMIRROR_DIALECTS", "mine:dialect")
    with pytest.raises(ConfigurationError, match=r"are wrong: HOOKMIRROR_DIALECTS is not JSON: write a list"):
        load()


def test_all_wrong_settings_are_reported_together(read):
    message = refusal(read, "batch_size = 0", 'log_level = "loud"')
    assert "batch_size: " in message
    assert "log_level: " in message


def test_dedup_keys_must_be_kept_longer_than_bodies(read):
    message = refusal(read, "body_retention_days = 500")
    assert "dedup_retention_days must not be shorter than body_retention_days" in message


@pytest.mark.parametrize("name", ["Sigma", "sigma us", "-sigma", "sigma-", "a" * 65, "grün", "a/b", '""'])
def test_a_source_has_a_name_that_can_stand_in_a_url(read, name):
    quoted = name if name == '""' else f'"{name}"'
    assert "because it stands in a URL" in refusal(read, f"[sources.{quoted}]")


@pytest.mark.parametrize("url", ["foo", "pim.example/api", "ftp://pim.example", "http://", "http://[", "http://x:y"])
def test_an_api_url_that_cannot_be_called_is_refused(read, url):
    message = refusal(read, "[sources.sigma]", f'api_url = "{url}"')
    assert 'sources.sigma.api_url: takes the URL of an API, such as "https://pim.example/api/v1"' in message


def test_an_empty_api_url_counts_as_unset(read):
    assert read("[sources.sigma]", 'api_url = ""').sources["sigma"].api_url is None


# ── places of settings ────────────────────────────────────────────────────────────────────────────────────────


def test_a_setting_of_the_file_is_located_there(read, tmp_path):
    file = tmp_path / "hookmirror.toml"
    assert read('database_url = "sqlite:///a.db"').place_of("database_url") == f"`database_url` in {file}"


def test_a_setting_from_the_environment_or_by_default_is_located_at_its_variable(read, monkeypatch):
    assert read("batch_size = 7").place_of("database_url") == "HOOKMIRROR_DATABASE_URL"
    monkeypatch.setenv("HOOKMIRROR_DATABASE_URL", "sqlite:///b.db")
    assert read('database_url = "sqlite:///a.db"').place_of("database_url") == "HOOKMIRROR_DATABASE_URL"


# ── secrets ───────────────────────────────────────────────────────────────────────────────────────────────────


def settings_with_secrets():
    return Settings(secret_key="secret-key-value", sources={"sigma": SECRETS})


@pytest.mark.parametrize(
    "show",
    [
        repr,
        str,
        lambda settings: settings.model_dump_json(),
        lambda settings: repr(settings.model_dump()),
        lambda settings: repr(settings.sources["sigma"]),
        lambda settings: settings.sources["sigma"].model_dump_json(),
        lambda settings: repr(settings.sources["sigma"].credentials()),
    ],
)
def test_no_secret_is_ever_shown(show):
    shown = show(settings_with_secrets())
    assert "-value" not in shown


@pytest.mark.parametrize("key", ["secrets", "webhook_secrets", "app_key", "api_key", "api_secret", "cipher"])
def test_the_error_about_another_setting_contains_no_secret(key):
    wrong = {**SECRETS, key: [["secret-value-in-a-list"]]}
    with pytest.raises(ValidationError) as refused:
        SourceSettings(name="sigma", **wrong)
    assert key in str(refused.value)
    assert "-value" not in str(refused.value)


@pytest.mark.parametrize("line", ['secrets = "a-value"', 'app_key = ["a-value"]', 'secrets = ["a-value", 7]', "x = 1"])
def test_the_error_about_the_file_contains_no_secret(read, line):
    assert "-value" not in refusal(read, "[sources.sigma]", line, 'api_key = "my-api-value"')


def test_no_message_contains_a_secret_of_the_environment(monkeypatch):
    monkeypatch.setenv("HOOKMIRROR_SECRET_KEY", "my-secret-value")
    monkeypatch.setenv("HOOKMIRROR_SOURCES", '{"sigma": {"secrets": "one-value"}}')
    with pytest.raises(ConfigurationError) as refused:
        load()
    assert "-value" not in str(refused.value)


def test_secrets_verify_newest_first_and_those_of_the_settings_before_those_of_the_file(read, tmp_path):
    (tmp_path / "sigma.secrets").write_bytes(b"third\n\n  fourth  \r\n")
    source = read("[sources.sigma]", 'secrets = ["first", "second"]', 'secrets_file = "sigma.secrets"').sources["sigma"]
    assert [secret.value for secret in source.credentials().secrets] == [b"first", b"second", b"third", b"fourth"]


def test_a_secret_of_a_webhook_record_knows_its_record():
    secrets = SourceSettings(name="indexed", webhook_secrets={"web_1": "one"}).credentials().secrets
    assert [(secret.value, secret.name) for secret in secrets] == [(b"one", "web_1")]


def test_a_secrets_file_named_in_the_environment_is_beside_the_settings_file(read, monkeypatch, tmp_path):
    (tmp_path / "sigma.secrets").write_text("one\n")
    monkeypatch.setenv("HOOKMIRROR_SOURCES", '{"sigma": {"secrets_file": "sigma.secrets"}}')
    source = read().sources["sigma"]
    assert (source.secrets_file, len(source.credentials().secrets)) == (tmp_path / "sigma.secrets", 1)


def test_a_secrets_file_that_no_system_can_have_is_refused(read):
    with pytest.raises(ConfigurationError, match=r"sources\.sigma\.secrets_file: .*no path has a NUL in it"):
        read("[sources.sigma]", r'secrets_file = "a\u0000b"')


@pytest.mark.parametrize(
    ("variable", "text", "name"),
    [
        ("SECRET_KEY", "\udcff" * 32, "HOOKMIRROR_SECRET_KEY"),
        ("SOURCES", '{"sigma": {"secrets": ["\udcff"]}}', "sources.sigma.secrets"),
        ("SOURCES", r'{"sigma": {"webhook_secrets": {"web_1": "\ud800"}}}', "sources.sigma.webhook_secrets"),
    ],
)
def test_a_text_that_is_not_in_utf_8_is_refused(monkeypatch, variable, text, name):
    monkeypatch.setenv(f"HOOKMIRROR_{variable}", text)
    with pytest.raises(ConfigurationError, match=f"{re.escape(name)}: is not text in UTF-8: write it in UTF-8"):
        load()


def test_a_source_is_named_by_its_heading_alone(read):
    with pytest.raises(ConfigurationError, match=r"sources\.sigma has a `name`, which is not a setting: remove"):
        read("[sources.sigma]", 'name = "shop"')


def test_a_missing_secrets_file_is_reported_with_advice(read, tmp_path):
    source = read("[sources.sigma]", 'secrets_file = "absent"').sources["sigma"]
    with pytest.raises(ConfigurationError, match=r"source sigma names secrets_file = '.*absent', .*one secret a line"):
        source.credentials()


def test_a_missing_secret_key_is_reported_with_a_way_to_make_one():
    with pytest.raises(ConfigurationError, match=r"HOOKMIRROR_SECRET_KEY is not set.*token_urlsafe"):
        _ = load().secret_keys


def test_of_several_secret_keys_the_newest_signs(monkeypatch):
    monkeypatch.setenv("HOOKMIRROR_SECRET_KEY", "the-newest-secret-key the-older-secret-key")
    assert load().secret_keys[-1] == "the-newest-secret-key"


@pytest.mark.parametrize(
    "keys", ["fifteen-letters", "fifteen-letters a-secret-key-of-length", "a-secret-key-of-length x"]
)
def test_a_secret_key_that_could_be_guessed_is_refused_and_not_shown(monkeypatch, keys):
    monkeypatch.setenv("HOOKMIRROR_SECRET_KEY", keys)
    with pytest.raises(ConfigurationError, match=r"a key of less than 16 characters.*token_urlsafe") as refused:
        _ = load().secret_keys
    assert "letters" not in str(refused.value)


# ── text around a value ───────────────────────────────────────────────────────────────────────────────────────

BOM = b"\xef\xbb\xbf"


@pytest.mark.parametrize(
    "content",
    [
        BOM + b"batch_size = 7\n",
        BOM + b"batch_size = 7\r\n",
        b"batch_size = 7\r\nlog_level = 'debug'\r\n",
        b"batch_size = 7",
        b"\n\nbatch_size = 7  \n \t\n",
    ],
)
def test_a_settings_file_is_read_whatever_editor_wrote_it(tmp_path, content):
    (tmp_path / "hookmirror.toml").write_bytes(content)
    assert load(tmp_path / "hookmirror.toml").batch_size == 7


def test_a_settings_file_in_another_encoding_is_refused_with_the_advice_to_save_it_as_utf_8(tmp_path):
    (tmp_path / "hookmirror.toml").write_bytes("batch_size = 7".encode("utf-16"))
    with pytest.raises(ConfigurationError, match=r"not written in UTF-8 .*: save it as UTF-8\.$"):
        load(tmp_path / "hookmirror.toml")


def test_a_settings_file_with_an_endless_number_is_not_toml(tmp_path):
    (tmp_path / "hookmirror.toml").write_text(f"batch_size = {'1' * 5_000}\n")
    with pytest.raises(ConfigurationError, match=r"hookmirror\.toml is not TOML: Exceeds the limit"):
        load(tmp_path / "hookmirror.toml")


def test_an_endlessly_nested_settings_file_is_not_toml(tmp_path):
    (tmp_path / "hookmirror.toml").write_text("a = " + "[" * 100_000)
    with pytest.raises(ConfigurationError, match=r"hookmirror\.toml is not TOML"):
        load(tmp_path / "hookmirror.toml")


@pytest.mark.parametrize(
    "content",
    [BOM + b"one\ntwo", BOM + b"one\r\ntwo\r\n", b"one\rtwo\r", b"one\n\n  two\t\n\n", b"one \n two "],
)
def test_a_secrets_file_is_read_with_any_line_ends_and_blanks(read, tmp_path, content):
    (tmp_path / "secrets").write_bytes(content)
    source = read("[sources.sigma]", 'secrets_file = "secrets"').sources["sigma"]
    assert [secret.value for secret in source.credentials().secrets] == [b"one", b"two"]


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_a_secrets_file_in_utf_16_is_refused_with_advice(read, tmp_path, encoding):
    (tmp_path / "secrets").write_bytes("\ufeffone\n".encode(encoding))
    source = read("[sources.sigma]", 'secrets_file = "secrets"').sources["sigma"]
    with pytest.raises(ConfigurationError, match=r"is written in UTF-16: save it as UTF-8\.$"):
        source.credentials()


@pytest.mark.parametrize("content", [b"", b"\n", BOM, BOM + b" \r\n"])
def test_a_secrets_file_without_a_secret_is_refused(read, tmp_path, content):
    (tmp_path / "secrets").write_bytes(content)
    source = read("[sources.sigma]", "allow_unsigned = true", 'secrets_file = "secrets"').sources["sigma"]
    with pytest.raises(ConfigurationError, match="has no secret: write one secret a line, or remove `secrets_file`"):
        source.credentials()


@pytest.mark.parametrize(
    "line",
    [
        r'secrets = ["a-value\n"]',
        r'secrets = ["fine", "\r\na-value"]',
        'secrets = ["""a-value\n"""]',
        r'webhook_secrets = { web_1 = "a-value\n" }',
        r'app_key = "a-value\r"',
        r'api_key = "a-value\n"',
        r'api_secret = "a-value\n"',
    ],
)
def test_a_secret_with_a_line_end_around_it_is_refused_and_not_shown(read, line):
    message = refusal(read, "[sources.sigma]", line)
    name = line.partition(" ")[0]
    says = "begins or ends with a line end, which is never a part of a secret: remove it"
    assert f"sources.sigma.{name}: {says}" in message
    assert "-value" not in message


def test_a_secret_of_the_environment_with_a_line_end_is_refused(monkeypatch):
    monkeypatch.setenv("HOOKMIRROR_SOURCES", r'{"sigma": {"secrets": ["a-value\n"]}}')
    with pytest.raises(ConfigurationError, match=r"sources\.sigma\.secrets: begins or ends with a line end"):
        load()


def test_blanks_around_a_secret_count_and_are_reported_without_the_secret(read):
    settings = read(
        "[sources.sigma]",
        'secrets = ["fine", "a-value "]',
        'webhook_secrets = { web_1 = "\\ta-value" }',
        'api_key = ""',
    )
    assert settings.sources["sigma"].credentials().secrets[1].value == b"a-value "
    assert [doubt.partition(" has blanks")[0] for doubt in settings.doubts] == [
        "secrets[2] of the source sigma",
        "webhook_secrets.web_1 of the source sigma",
    ]
    assert "-value" not in "".join(settings.doubts)


# ── the environment ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", [*Settings.model_fields, "config", "token"])
@pytest.mark.parametrize("text", ["", " ", "\r", "\n"])
def test_an_empty_variable_counts_as_unset(monkeypatch, name, text):
    unset = load()
    monkeypatch.setenv(f"HOOKMIRROR_{name.upper()}", text)
    assert load() == unset
    assert load().place_of("database_url") == "HOOKMIRROR_DATABASE_URL"


def test_an_empty_variable_leaves_the_file_s_setting(read, monkeypatch):
    monkeypatch.setenv("HOOKMIRROR_BATCH_SIZE", "")
    settings = read("batch_size = 7", 'database_url = "sqlite:///a.db"')
    monkeypatch.setenv("HOOKMIRROR_DATABASE_URL", " ")
    assert settings.batch_size == 7
    assert settings.place_of("database_url").startswith("`database_url` in ")


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("batch_size", "7\r", 7),
        ("log_level", " debug\r\n", "debug"),
        ("database_url", "sqlite:///a.db\r", "sqlite:///a.db"),
        ("dialects", '["a:b"]\n', ["a:b"]),
    ],
)
def test_blanks_and_line_ends_around_a_variable_are_removed(monkeypatch, name, text, value):
    monkeypatch.setenv(f"HOOKMIRROR_{name.upper()}", text)
    assert getattr(load(), name) == value


def test_the_settings_file_is_found_despite_blanks_around_its_name(read, monkeypatch, tmp_path):
    read("batch_size = 7")
    monkeypatch.setenv("HOOKMIRROR_CONFIG", f"{tmp_path}/hookmirror.toml\r\n")
    assert load().batch_size == 7
