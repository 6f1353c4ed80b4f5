"""Refused requests: their numbers by code, the kept ones, and the button that verifies these again."""

from __future__ import annotations

from base64 import b64encode
from collections import Counter
from datetime import timedelta
from typing import NamedTuple

from receiver.api.parameters import SOURCE
from receiver.api.refused import Dropped, RefusedPage, RefusedRequest, VerifiedAgain
from receiver.console.bodies import ShownBody, shown_body
from receiver.console.lists import FilterField, Listing, filter_fields, listing
from receiver.console.page import Button, ConsolePage
from receiver.console.visit import Visit
from receiver.findings import tallies
from receiver.inbox.refused import totals
from receiver.logs.wording import counted
from receiver.worker.processes import running, unread_files

#: Kept requests on a page, and the time over which refusals are counted.
REFUSED_SHOWN, REFUSED_COUNTED = "50", timedelta(days=1)


class TypedRefusedPage(RefusedPage, frozen=True):
    """A page with its items decoded from JSON."""

    items: list[RefusedRequest]


class RefusedList(NamedTuple):
    """The values for the template of the list."""

    items: list[RefusedRequest]
    fields: list[FilterField]
    listing: Listing
    #: Codes with the numbers of refused requests in the last day, largest first.
    codes: list[tuple[str, int]]
    #: Sources with the numbers of their kept requests.
    kept: list[tuple[str, int]]
    #: Sources in the settings, whose requests can be verified.
    known: frozenset[str]
    #: The files with the settings that a process has not read since they changed.
    unread: list[str]


class RefusedShown(NamedTuple):
    """The values for the template of one request."""

    request: RefusedRequest
    #: The beginning of the body; None if this person may not see it.
    body: ShownBody | None
    is_known: bool


def show_refused_list(visit: Visit) -> RefusedList:
    """The refused requests of the last day by code, and the newest kept ones."""
    page = visit.ask_listed(TypedRefusedPage, "list_refused", limit=REFUSED_SHOWN)
    only = visit.query.get("source")
    with visit.database.read() as connection:
        # Requests to unknown sources are counted under the source "".
        of = [only] if only else ["", *visit.sources]
        sums = tallies.totals(connection, of, ("refused",), visit.now - REFUSED_COUNTED, visit.now)
        unread = sorted({file for process in running(connection, visit.now) for file in unread_files(process)})
        kept = [(each.source, each.number) for each in totals(connection) if only in (None, each.source)]
    codes: Counter[str] = Counter()
    for each in sums:
        codes[each.detail] += each.number
    return RefusedList(
        items=page.items,
        fields=filter_fields(visit, (SOURCE,)),
        listing=listing(visit, REFUSED_PAGE, following=page.next),
        codes=codes.most_common(),
        kept=kept,
        known=frozenset(visit.sources),
        unread=unread,
    )


def show_one_refused(visit: Visit) -> RefusedShown:
    """One kept request, with the beginning of its body."""
    found = visit.ask(RefusedRequest, "show_refused", id=visit.path["id"])
    body = _beginning(found) if visit.sees_bodies else None
    return RefusedShown(found, body, found.source in visit.sources)


def _beginning(request: RefusedRequest) -> ShownBody:
    if request.begins_encoding == "hex":
        return shown_body(b64encode(bytes.fromhex(request.begins)).decode(), "base64")
    # The body may come from a stranger, so it is never parsed.
    return shown_body(request.begins, "utf-8", as_sent=True)


def _verified(answer: VerifiedAgain) -> str:
    """Describe the result of verifying the kept requests again."""
    stay = f"{counted(answer.left, 'request stays', 'requests stay')} kept" if answer.left else "none is left"
    if not answer.verified:
        return f"No request verifies with the present secrets: {stay}."
    before = f", {answer.duplicates:,} came before" if answer.duplicates else ""
    return f"{counted(answer.verified, 'request')} verified: {answer.accepted:,} new{before}; {stay}."


def _dropped(answer: Dropped) -> str:
    return f"{counted(answer.dropped, 'request is', 'requests are')} dropped."


REFUSED_PAGE = ConsolePage(
    name="refused",
    path="/refused",
    title="Refused requests",
    template="refused.html",
    operation="list_refused",
    command="hookmirror refused",
    show=show_refused_list,
    menu="Refused",
    options=(("source", ""),),
    follows_in="cursor",
    bodies=("begins", "begins_encoding"),
    live=("refused", "runs", "findings"),
)

PAGES = (
    REFUSED_PAGE,
    ConsolePage(
        name="refused_request",
        path="/refused/{id}",
        title="A refused request",
        template="refused_request.html",
        operation="show_refused",
        command="hookmirror refused --show {id}",
        show=show_one_refused,
    ),
)

BUTTONS = (
    Button(
        name="verify_refused",
        path="/refused/{source}/verify",
        label="Verify again",
        operation="verify_refused",
        command="hookmirror refused {source} --verify",
        says=_verified,
        then="/refused?source={source}",
        fields=("reason",),
    ),
    Button(
        name="drop_refused",
        path="/refused/{source}/drop",
        label="Drop them",
        operation="drop_refused",
        command="hookmirror refused {source} --drop",
        says=_dropped,
        # Not with the source, which may be unknown once its requests are dropped.
        then="/refused",
        fields=("reason",),
        confirms="Dropped requests are lost, and cannot be verified afterwards.",
    ),
)
