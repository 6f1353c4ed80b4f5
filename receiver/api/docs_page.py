"""`/docs`: the OpenAPI document as an HTML page without scripts and without requests to other hosts."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from html import escape
from typing import Any

from starlette.concurrency import run_in_threadpool

from receiver.api.operations import Operation, Question

#: Allows only the page itself with its inline style sheet.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

SHEET = """
:root { color-scheme: light dark }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
code { font-family: ui-monospace, monospace } section { border-top: 1px solid #8888; margin-top: 1.5rem }
table { border-collapse: collapse; width: 100% } th, td { text-align: left; vertical-align: top; padding: .2rem .6rem }
th { font-weight: 600 } h2 { font-size: 1.1rem; overflow-wrap: anywhere } td { overflow-wrap: anywhere }
"""

#: The headings of a table of parameters.
PARAMETER_HEADS = ("parameter", "in", "required", "type", "")

HTML_MEDIA_TYPE = "text/html; charset=utf-8"


class DocsPage:
    """The operation that returns the page, which is made at the first request."""

    def __init__(self, document: Callable[[], Mapping[str, Any]]) -> None:
        self._document = document
        self._page: bytes | None = None

    def operations(self) -> list[Operation]:
        return [
            Operation(
                name="docs",
                path="/docs",
                summary="This document as a page",
                answer=self.show,
                answers={200: str},
                media_type=HTML_MEDIA_TYPE,
                headers={"Content-Security-Policy": POLICY, "X-Content-Type-Options": "nosniff"},
            )
        ]

    async def show(self, _: Question) -> bytes:
        if self._page is None:
            self._page = await run_in_threadpool(lambda: page_of(self._document()).encode())
        return self._page


def page_of(document: Mapping[str, Any]) -> str:
    """Format the document as HTML."""
    info = document["info"]
    title = escape(f"{info['title']} {info['version']}")
    described = "\n".join(_operations(document))
    schemas = "\n".join(_schema(name, schema) for name, schema in sorted(document["components"]["schemas"].items()))
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{SHEET}</style></head><body>\n'
        f"<h1>{title}</h1><p>{escape(info['description'])}</p>"
        '<p>The same for programs: <a href="openapi.json">openapi.json</a>.</p>\n'
        f"{described}\n<h1>Shapes</h1>\n{schemas}\n</body></html>\n"
    )


def _operations(document: Mapping[str, Any]) -> Iterator[str]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield "".join(
                (
                    f'<section id="{escape(operation["operationId"])}">',
                    f"<h2><code>{method.upper()} {escape(path)}</code></h2><p>{escape(operation['summary'])}.",
                    _scopes(operation),
                    "</p>",
                    _table(PARAMETER_HEADS, map(_parameter, operation.get("parameters", []))),
                    _table(("status", "answer", ""), _answers(operation["responses"])),
                    "</section>",
                )
            )


def _scopes(operation: Mapping[str, Any]) -> str:
    scopes = [scope for each in operation.get("security", []) for scope in each.get("token", [])]
    return escape(f" Needs a token with the scope {', '.join(scopes)}.") if scopes else ""


def _parameter(parameter: Mapping[str, Any]) -> tuple[str, ...]:
    name = f"<code>{escape(parameter['name'])}</code>"
    required = "yes" if parameter["required"] else "no"
    return name, parameter["in"], required, _type(parameter["schema"]), escape(parameter["description"])


def _answers(responses: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    for status, response in responses.items():
        schemas = [content["schema"] for content in response.get("content", {}).values()]
        yield escape(status), escape(response["description"]), " ".join(map(_type, schemas))


def _schema(name: str, schema: Mapping[str, Any]) -> str:
    members = schema.get("properties", {})
    rows = (
        (f"<code>{escape(member)}</code>", _type(each), escape(each.get("description", "")))
        for member, each in members.items()
    )
    about = escape(schema.get("description", ""))
    table = _table(("member", "type", ""), rows)
    return f'<section id="{_anchor(name)}"><h2>{escape(name)}</h2><p>{about}</p>{table}</section>'


def _type(schema: Mapping[str, Any]) -> str:
    """Describe a schema in a few words."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f'<a href="#{_anchor(name)}">{escape(name)}</a>'
    if "anyOf" in schema:
        return " or ".join(map(_type, schema["anyOf"]))
    if "enum" in schema:
        return escape(", ".join(each if isinstance(each, str) else json.dumps(each) for each in schema["enum"]))
    kind = str(schema.get("type", "anything"))
    if kind == "array":
        return f"list of {_type(schema.get('items', {}))}"
    return escape(f"{kind} ({schema['format']})" if "format" in schema else kind)


def _anchor(name: str) -> str:
    return "shape-" + "".join(each if each.isalnum() else "-" for each in name)


def _table(heads: tuple[str, ...], rows: Any) -> str:
    """Format a table whose cells are HTML already; empty text without rows."""
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    head = "".join(f"<th>{escape(each)}</th>" for each in heads)
    return f"<table><tr>{head}</tr>{body}</table>" if body else ""
