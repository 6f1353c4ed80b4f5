"""Examples of commands, which `--help` shows below their options."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

#: The usual calls of each command whose options alone do not show how to use it, by the name of its function.
COMMAND_EXAMPLES = {
    "follow": ("hookmirror follow --to https://erp.example/changes --name erp --from start",),
    "token": ("hookmirror token --scope operate --name ops-1",),
    "console_link": ("hookmirror console-link --role operator --name ops-1",),
    "findings": ("hookmirror findings", "hookmirror findings --acknowledge ID --reason 'the shop knows of it'"),
    "refused": ("hookmirror refused shop", "hookmirror refused shop --verify"),
    "send": (
        'hookmirror send shop product.updated --id A1 --data \'{"name": "Lamp"}\'',
        "hookmirror send shop captured.json --to https://hooks.example.com",
    ),
    "capture": ("hookmirror capture depot", "hookmirror capture depot --write captured.json"),
    "new_dialect": ("hookmirror new-dialect depot --from captured.json --secrets-file secret --into depot",),
    "deliveries": ("hookmirror deliveries --source shop --state dead --since 2h",),
    "rows": ("hookmirror rows products --source shop --sku L-1",),
    "row": ("hookmirror row products shop A1",),
    "changes": ("hookmirror changes --table products --source shop --since 2h",),
    "replay": (
        "hookmirror replay --source shop --state dead --dry-run",
        "hookmirror replay --source shop --state dead --reason 'prices may have a comma'",
    ),
    "reconcile": ("hookmirror reconcile shop --dry-run", "hookmirror reconcile shop --entity products:A1"),
    "ask": ("hookmirror ask products shop A1",),
    "rehearse": ("hookmirror rehearse --source shop --last 1000",),
    "runs": (
        "hookmirror runs plan --source shop --state dead",
        "hookmirror runs start 81 --reason 'prices may have a comma'",
        "hookmirror runs plan reconcile shop",
    ),
    "copy": ("hookmirror copy sqlite:///hookmirror.db postgresql://hookmirror_owner@db.example/hookmirror",),
}


def epilog_of(command: Callable[..., Any]) -> str | None:
    """The text below the help of one of our commands; None without an example, and for commands of other packages."""
    if not getattr(command, "__module__", "").startswith("receiver.commands."):
        return None
    lines = COMMAND_EXAMPLES.get(command.__name__)
    return "\n\n".join(("For example:", *lines)) if lines else None
