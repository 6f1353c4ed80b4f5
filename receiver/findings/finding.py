"""Findings: sentences that something needs a person, each with its evidence and what to do."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

#: Bytes of an id.
ID_BYTES = 6


@dataclass(frozen=True, slots=True)
class Finding:
    """What a rule found."""

    rule: str
    #: Empty for what is of no source.
    source: str
    #: When what it is about began.
    since: datetime
    #: One sentence without its full stop.
    says: str
    #: What to do, in whole sentences.
    mend: str
    #: Numbers, and `link`: the address of the API that shows them.
    evidence: Mapping[str, Any] = field(default_factory=dict)
    #: Tells the findings of one rule and source apart.
    about: str = ""

    @property
    def id(self) -> str:
        """The same whenever this rule finds the same thing."""
        named = "\n".join((self.rule, self.source, self.about)).encode()
        return hashlib.blake2s(named, digest_size=ID_BYTES).hexdigest()
