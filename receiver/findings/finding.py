"""Findings: conditions that need a person, each with its evidence and advice."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

#: The length of an id in bytes.
ID_BYTES = 6


@dataclass(frozen=True, slots=True)
class Finding:
    """One result of a rule: a condition that needs a person, with advice."""

    rule: str
    #: Empty for a finding that concerns no single source.
    source: str
    #: The time at which the condition began.
    since: datetime
    #: One sentence without its full stop.
    says: str
    #: The advice, in whole sentences.
    mend: str
    #: Numbers, and `link`: the API address that shows the details.
    evidence: Mapping[str, Any] = field(default_factory=dict)
    #: Distinguishes several findings of one rule and source.
    about: str = ""

    @property
    def id(self) -> str:
        """An id that is stable for as long as the rule finds the same condition."""
        return finding_id(self.rule, self.source, self.about)


def finding_id(rule: str, source: str, about: str) -> str:
    """The id of the findings of one rule and source about one thing."""
    named = "\n".join((rule, source, about)).encode()
    return hashlib.blake2s(named, digest_size=ID_BYTES).hexdigest()
