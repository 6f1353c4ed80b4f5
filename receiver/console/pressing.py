"""Pressing a button: the check of the person and of the form, the action, and the page that follows."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from inspect import iscoroutinefunction
from typing import Any
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response

from receiver.api.tokens import Scope
from receiver.console import forms
from receiver.console.answers import DONE, SAID, SEAL, WHEN, Addresses, page_answer, redirect
from receiver.console.contents import MENU
from receiver.console.footers import REASON_FIELD, footer_of_button
from receiver.console.guests import Guests
from receiver.console.page import Button, filled, read_parts, written_part
from receiver.console.page_reads import PageReads
from receiver.console.rendering import new_key
from receiver.console.sign_in import SignIn, page_with
from receiver.console.visit import Visit, VisitedParts
from receiver.errors import BadRequest, Forbidden, NotAuthorized, Refused
from receiver.sessions.roles import Guest, Role

FROM_ANOTHER_SESSION = (
    "This form is not from your session, so nothing was done: you may have signed in anew since it was opened. Read it "
    "again, and press the button again."
)


class Pressing:
    """Shows the forms of buttons, and carries out the action of a pressed button."""

    def __init__(
        self, parts: VisitedParts, sign_in: SignIn, guests: Guests, reads: PageReads, read_forms: forms.Forms
    ) -> None:
        self._parts = parts
        self._operations = parts.operations
        self._sign_in = sign_in
        self._guests = guests
        self._reads = reads
        self._forms = read_forms

    async def show(self, button: Button, request: Request) -> Response:
        """The button's form on a separate page, which describes the action and asks for the fields."""

        def answer() -> Response:
            visit = self._visit(button, request, forms.joined(request.query_params.multi_items()))
            return self._form(button, request, visit)

        return await self._reads.run(request, button.name, answer)

    async def press(self, button: Button, request: Request) -> Response:
        """Do the button's action, and redirect to the page that follows."""
        fields = await self._forms.read(request)
        token = fields.pop(forms.TOKEN_FIELD, "")
        try:
            visit = await self._reads.run(request, button.name, lambda: self._visit(button, request, fields))
        except NotAuthorized as refusal:
            form = page_with(filled(button.path, _quoted(read_parts(request.path_params))), fields.items())
            return self._sign_in.wanted(request, refusal, form=form)
        try:
            self._guests.refuse_foreign_form(visit.guest, token, says=FROM_ANOTHER_SESSION)
            forms.refuse_without_marks(fields)
            answer = await self._done(button, request, visit)
        except Refused as refusal:
            return self._form(button, request, visit, refusal=refusal)
        then = filled(button.then, _quoted(visit.path)) if isinstance(button.then, str) else button.then(visit, answer)
        return redirect(request, then, done=self._said(button, visit, answer))

    def _said(self, button: Button, visit: Visit, answer: Any) -> dict[str, str]:
        """The parameters for the next page's message about the action, sealed so that no link can forge the message."""
        done = {DONE: button.name, WHEN: f"{datetime.now(UTC).timestamp():.0f}"}
        if isinstance(button.says, str):
            return done
        said = button.says(answer)
        return done | {SAID: said, SEAL: self._guests.seal(visit.guest, said)}

    async def _done(self, button: Button, request: Request, visit: Visit) -> Any:
        operation = self._operations[button.operation]
        answer = operation.answer
        assert answer is not None
        names = {parameter.name for parameter in operation.parameters}
        given = {**visit.query, **visit.path, **dict(button.given)}
        words = {name: text for name, text in given.items() if name in names}
        if forms.KEY_FIELD in words:
            words[forms.KEY_FIELD] = _key_of(words)
        question = visit.question(operation, words)
        if iscoroutinefunction(answer):
            return await answer(question)
        return await self._reads.run(request, button.name, lambda: answer(question))

    def _visit(self, button: Button, request: Request, fields: Mapping[str, str]) -> Visit:
        """The visit of the pressing person. Raises `NotAuthorized`, and `Forbidden` for a viewer."""
        now = datetime.now(UTC)
        guest = self._guests.signed_in(request, now=now)
        self._refuse_role(button, guest)
        for name in button.leaves_out:
            if fields.get(name, "").strip():
                raise BadRequest(f"The console does not take `{name}`: give it to `{button.command.split(' {')[0]}`.")
        return Visit(
            self._parts,
            guest,
            to=Addresses(request).to,
            path=read_parts(request.path_params),
            # A blank note is none. A blank filter is one: without it, the action would concern more.
            query={name: text for name, text in fields.items() if name != REASON_FIELD or text.strip()},
            now=now,
        )

    def _refuse_role(self, button: Button, guest: Guest) -> None:
        if self._operations[button.operation].scope is Scope.OPERATE and guest.role is not Role.OPERATOR:
            raise Forbidden(
                f"You are signed in as a viewer, and “{button.label}” is for operators: ask for a link with "
                "`hookmirror console-link --role operator`."
            )

    def _form(self, button: Button, request: Request, visit: Visit, *, refusal: Refused | None = None) -> Response:
        operation = self._operations[button.operation]
        described = {parameter.name: parameter for parameter in operation.parameters}
        return page_answer(
            request,
            "button.html",
            status=200 if refusal is None else refusal.status,
            visit=visit,
            button=button,
            fields=[described[name] for name in button.fields],
            hidden={
                name: text for name, text in visit.query.items() if name in described and name not in button.fields
            },
            takes_key=forms.KEY_FIELD in described,
            key=visit.query.get(forms.KEY_FIELD) or new_key(),
            refusal=refusal,
            back=filled(button.then, _quoted(visit.path)) if isinstance(button.then, str) else None,
            menu=MENU,
            footer=footer_of_button(button, visit, visit.path),
        )


def _key_of(words: Mapping[str, str]) -> str:
    """The key of this request, made of the form's key and its fields.

    A form that is pressed twice is one request. A form that a browser kept and a person filled in again is another.
    """
    said = "\n".join(f"{name}={quote(text)}" for name, text in sorted(words.items()))
    return hashlib.sha256(said.encode("utf-8", "replace")).hexdigest()


def _quoted(path: Mapping[str, str]) -> dict[str, str]:
    return {name: written_part(text) for name, text in path.items()}
