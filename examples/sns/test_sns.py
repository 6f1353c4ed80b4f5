"""Messages that SNS would sign, with a certificate made here, and what the dialect refuses."""

import json
import threading
import time
from base64 import b64encode
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from certificates import MOST_FETCHES, Certificates
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from sns import SnsSettings, SnsSignature, sns

from handlers.catalog import Product
from receiver import NotVerified, WebhookRequest
from receiver.errors import Unavailable
from receiver.senders import sns_text

TOPIC = "arn:aws:sns:eu-central-1:123456789012:catalog"
URL = "https://sns.eu-central-1.amazonaws.com/SimpleNotificationService-0123abcd.pem"
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)


def certificate() -> bytes:
    now, name = datetime.now(UTC), x509.Name([])
    made = x509.CertificateBuilder(name, name, KEY.public_key(), 1, now, now + timedelta(days=1))
    return made.sign(KEY, hashes.SHA256()).public_bytes(Encoding.PEM)


PEM = certificate()


def message(**parts):
    """Return the body of a signed message; parts that SNS does not sign are added behind the signature."""
    said = {"type": "product.updated", "id": "A1", "data": {"name": "Lamp"}}
    whole = {
        "Type": "Notification",
        "MessageId": "m-1",
        "TopicArn": TOPIC,
        "Message": json.dumps(said),
        "Timestamp": "2026-06-01T12:00:00.000Z",
        "SignatureVersion": "2",
        "SigningCertURL": URL,
    } | parts
    text = sns_text(WebhookRequest(json.dumps(whole).encode()))
    signature = KEY.sign(text, padding.PKCS1v15(), hashes.SHA256())
    return whole | {"Signature": b64encode(signature).decode()}


@pytest.fixture
def fetched(monkeypatch):
    """The addresses that were fetched; each fetch gets the certificate made here."""
    seen = []
    certificates = Certificates(lambda url: seen.append(url) or PEM)
    monkeypatch.setattr(sns, "verifier", SnsSignature(certificates))
    return seen


@pytest.fixture
def post(webhooks, fetched):
    webhooks.source("sns", settings={"topics": [TOPIC]})

    def post(body):
        """Post a message, as SNS does again after a 503."""
        for _ in range(100):
            answer = webhooks.post("sns", json.dumps(body).encode())
            if answer.status != 503:
                return answer
            time.sleep(0.02)
        raise AssertionError("the certificate was not fetched")

    return post


def test_a_message_is_accepted_after_its_certificate_was_fetched_once(webhooks, post, fetched):
    assert webhooks.post("sns", json.dumps(message()).encode()).body["error"] == "unavailable"
    assert post(message()).status == 200
    assert post(message(MessageId="m-2")).status == 200
    webhooks.drain()
    assert webhooks.row(Product, "A1").name == "Lamp"
    assert fetched == [URL]


def test_a_subscription_waits_for_a_person(webhooks, post):
    confirmation = {"Type": "SubscriptionConfirmation", "Token": "t", "SubscribeURL": "https://sns.example"}
    answer = post(message(**confirmation))
    assert webhooks.delivery(answer)["state"] == "ignored"


@pytest.mark.parametrize("changed", ["Message", "MessageId", "Timestamp", "Signature"])
def test_a_changed_message_is_refused(post, changed):
    body = message()
    assert post(body | {changed: "x" + body[changed]}).body["error"] == "signature_wrong"


@pytest.mark.parametrize(
    "url",
    [
        *("http://sns.eu-central-1.amazonaws.com/SimpleNotificationService-1.pem", "https://evil.example/a.pem", ""),
        *("https://sns.eu-central-1.amazonaws.com.evil.example/SimpleNotificationService-1.pem", None, 7, [URL]),
        *("https://sns.eu-central-1.amazonaws.com@evil.example/SimpleNotificationService-1.pem", f"{URL}\n"),
        *("https://evil.example/https://sns.eu-central-1.amazonaws.com/SimpleNotificationService-1.pem", f"{URL}?a=b"),
        *("https://sns.eu-central-1.amazonaws.com:8443/SimpleNotificationService-1.pem", f"{URL}/../x.pem"),
    ],
)
def test_no_other_address_is_ever_fetched(post, fetched, url):
    assert post(message(SigningCertURL=url)).body["error"] == "signature_malformed"
    assert fetched == []


def test_a_message_of_another_topic_is_refused_although_sns_signed_it(post, fetched):
    assert post(message(TopicArn=f"{TOPIC}-of-a-stranger")).body["error"] == "signature_wrong"
    assert fetched == []


@pytest.mark.parametrize("body", ["x", 7, [], {}, {"Type": "Notification"}])
def test_a_body_of_another_form_is_refused(post, body):
    assert post(body).body["error"] == "signature_malformed"


def test_a_stranger_cannot_start_more_than_a_few_fetches():
    started, ended = [], threading.Event()
    certificates = Certificates(lambda url: started.append(url) or (ended.wait(10) and PEM))
    for number in range(50):
        with pytest.raises(Unavailable):
            certificates.key(URL.replace("0123abcd", str(number)))
    ended.set()
    assert 0 < len(started) <= MOST_FETCHES


def test_a_fetch_that_failed_is_tried_again():
    answers = iter([httpx.ConnectError("no"), ValueError("too large"), b"not a certificate", PEM])

    def fetch(url):
        answer = next(answers)
        if isinstance(answer, bytes):
            return answer
        raise answer

    certificates = Certificates(fetch, pause=0)
    for _ in range(200):
        try:
            assert certificates.key(URL) == KEY.public_key()
            return
        except Unavailable:
            time.sleep(0.01)
    raise AssertionError("the certificate was not fetched")


def test_a_source_without_a_topic_does_not_start(webhooks, fetched):
    assert SnsSettings(topics=[TOPIC]).topics == [TOPIC]
    with pytest.raises(Exception, match="it accepts no topic: set `topics`"):
        webhooks.source("sns", settings={"topics": []}, secrets=[])


def test_an_address_elsewhere_is_not_verified():
    with pytest.raises(NotVerified):
        Certificates().key("https://evil.example/a.pem")
