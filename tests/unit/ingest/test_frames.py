"""Frames between a serving process and its acceptor process: everything arrives as it was, in pieces of any size."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver import errors
from receiver.dialects.replies import SenderReply
from receiver.errors import BodyTooLarge, HeadTooLarge, NotVerified, Refused, Unavailable
from receiver.inbox.arrival import Accepted
from receiver.ingest.frames import (
    SentAnswers,
    SentRefusal,
    SentReply,
    SentRequest,
    SentRequests,
    Stored,
    Unframing,
    answers_of,
    framed,
    requests_of,
)

REQUESTS = st.builds(
    SentRequest,
    source=st.text(max_size=20),
    headers=st.lists(st.tuples(st.binary(max_size=20), st.binary(max_size=20)), max_size=3),
    body=st.binary(max_size=200),
    target=st.binary(max_size=20),
)

FRAMES = st.lists(st.builds(SentRequests, at=st.just(1.5), requests=st.lists(REQUESTS, max_size=3)), max_size=4)

REFUSALS = [
    NotVerified("signature_wrong", "It is."),
    NotVerified("signature_stale", "It is.", final=True),
    Unavailable("Later.", retry_after=7),
    BodyTooLarge("Too large.", size=9),
    HeadTooLarge("Too large.", limit="max_headers"),
    *(kind("It is.") for kind in Refused.__subclasses__() if kind not in (NotVerified, BodyTooLarge, HeadTooLarge)),
]


@given(frames=FRAMES, cuts=st.lists(st.integers(1, 50), max_size=40))
def test_frames_arrive_whole_whatever_the_pieces_are(frames, cuts):
    sent = b"".join(framed(each) for each in frames)
    unframing, arrived = Unframing(), []
    for cut in [*cuts, len(sent)]:
        piece, sent = sent[:cut], sent[cut:]
        arrived += [requests_of(content) for content in unframing.feed(piece)]
    assert arrived == frames


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda each: f"{type(each).__name__} {each.code}")
def test_a_refusal_arrives_with_its_class_and_all_its_values(refusal):
    ((arrived,), failed) = _sent(SentRefusal.of(refusal))
    assert type(arrived.refusal) is type(refusal)
    assert (str(arrived.refusal), arrived.refusal.status, arrived.refusal.code) == (
        str(refusal),
        refusal.status,
        refusal.code,
    )
    assert vars(arrived.refusal).items() >= vars(refusal).items()
    assert not failed


def test_every_refusal_of_ours_is_known():
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Refused)]
    assert {kind.__name__ for kind in kinds} >= {"Refused", "NotVerified", "Captured", "ChallengeRefused"}


def test_a_reply_to_a_challenge_arrives_as_it_is():
    reply = SenderReply(200, "ö", content_type="application/json", headers={"WebHook-Allowed-Origin": "*"})
    ((arrived,), _) = _sent(SentReply.of(reply))
    assert arrived.reply == reply


def test_the_answer_to_a_bundle_arrives_item_by_item():
    items = (Stored(True, 1, 0), Stored(False, 2, 0))
    ((arrived,), _) = _sent(Stored(True, 1, 0, items=items))
    assert arrived.accepted == Accepted("accepted", 1, [Accepted("accepted", 1, []), Accepted("duplicate", 2, [])])


def _sent(answer):
    (content,) = Unframing().feed(framed(SentAnswers([answer])))
    arrived = answers_of(content)
    return arrived.answers, arrived.failed
