import json

import pytest

from receiver.drafting.captures import LARGEST_CAPTURE, capture_of, read_capture
from receiver.errors import ConfigurationError


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"<order/>", "looks like XML"),
        (b'{"id": ', "not JSON"),
        (b"hello there", "plain text"),
        (b'{"id": "\xff"}', "not valid UTF-8"),
        (b"\xff\xfe{", "UTF-16"),
        (b"\x1f\x8b\x08\x00", "is compressed"),
        (b"[" * 100_000, "nested too deeply"),
        (b'"text"', "an object or a list"),
        (b"[]", "an object or a list"),
        (b"{}", "an object or a list"),
        (b'{"a": "' + b"x" * LARGEST_CAPTURE + b'"}', "1,048,576 bytes"),
        (b"a=%ff", "not in UTF-8"),
    ],
)
def test_a_capture_that_is_not_a_webhook_is_refused_with_the_reason(tmp_path, body, says):
    (tmp_path / "captured.json").write_bytes(body)
    with pytest.raises(ConfigurationError) as refused:
        read_capture(tmp_path / "captured.json", {})
    assert says in str(refused.value)
    assert len(str(refused.value)) < 600


@pytest.mark.parametrize("headers", [{"Content-Type": "application/json"}, [{"name": "content-type", "value": "text"}]])
def test_a_file_with_a_whole_request_is_refused_with_the_files_to_write(tmp_path, headers):
    path = tmp_path / "captured.json"
    path.write_text(json.dumps({"method": "POST", "headers": headers, "body": '{"id": 1}'}))
    with pytest.raises(ConfigurationError, match=r"save its body alone.*captured\.headers\.json"):
        read_capture(path, {})


def test_a_webhook_with_a_body_and_headers_of_its_own_is_read(tmp_path):
    (tmp_path / "captured.json").write_bytes(b'{"id": 1, "body": "A lamp", "headers": {"level": 1}}')
    assert read_capture(tmp_path / "captured.json", {}).document["body"] == "A lamp"


@pytest.mark.parametrize("name", ["missing.json", "."])
def test_a_capture_that_cannot_be_read_is_refused_with_its_path(tmp_path, name):
    with pytest.raises(ConfigurationError, match=r"correct the path after --from"):
        read_capture(tmp_path / name, {})


@pytest.mark.parametrize("header", ["no colon", ": no name", "X-Ä: 1", "X-A: a\x1bb"])
def test_an_invalid_header_is_refused(tmp_path, header):
    (tmp_path / "captured.json").write_bytes(b'{"id": 1}')
    with pytest.raises(ConfigurationError, match=r"--header takes NAME:VALUE"):
        read_capture(tmp_path / "captured.json", {}, [header])


def test_utf_16_and_a_byte_order_mark_are_read(tmp_path):
    for encoding in ("utf-16", "utf-8-sig"):
        (tmp_path / "captured.json").write_text('{"id": "ä"}', encoding)
        assert read_capture(tmp_path / "captured.json", {}).document == {"id": "ä"}


def test_a_given_header_replaces_the_one_beside_the_file(tmp_path):
    (tmp_path / "captured.json").write_bytes(b'{"id": 1}')
    assert read_capture(tmp_path / "captured.json", {"X-A": "1"}, ["x-a: 2", "X-B:3"]).headers == {
        "x-a": "2",
        "x-b": "3",
    }


def test_a_form_is_read_from_its_json_field_or_from_all_fields():
    assert capture_of(b"x=1&event=%7B%22id%22%3A1%7D", {}, name="it").form == "event"
    assert capture_of(b"x=1&y=a+b", {}, name="it").document == {"x": "1", "y": "a b"}
