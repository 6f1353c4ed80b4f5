"""Calls over HTTP: clients without cookies, calls that get no answer, and environments with which none can be made.

httpx reads the proxies and the certificates from the environment of the process.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.cookiejar import CookieJar, DefaultCookiePolicy

import httpx

from receiver.errors import ConfigurationError
from receiver.logs.safe_text import name_of, told_with_type

#: The errors of a call that gets no answer.
CALL_ERRORS = (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError)

#: The variables with which httpx and its TLS can fail; those of proxies may also be in lower case.
PROXY_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
TLS_VARIABLES = ("SSL_CERT_FILE", "SSLKEYLOGFILE")

#: The value of a header that h11, below httpx, sends: blanks only between others, and neither NUL nor a line break.
#: RFC 9110, section 5.5, is stricter, but a start refuses nothing that can be sent.
SENDABLE = re.compile(rb"(?:[^\x00\s]+(?:[ \t]+[^\x00\s]+)*)?")


def no_cookies() -> CookieJar:
    """Make the cookies of a client that keeps none: with them, a server would take all its calls for one session."""
    return CookieJar(DefaultCookiePolicy(allowed_domains=[]))


def unsendable_header(client: httpx.Client) -> str | None:
    """The name of a header of all calls of the client whose value cannot be sent; None without one.

    A call would raise an error that quotes the value, and the value is usually a key.
    """
    for name, value in client.headers.raw:
        if not SENDABLE.fullmatch(value):
            return name.decode("ascii", "backslashreplace")
    return None


@contextmanager
def usable_environment(fails: str) -> Iterator[None]:
    """Make calls over HTTP, or a client for them, in the block.

    Raises `ConfigurationError` for an error that the environment causes; its message begins with `fails`, such as "The
    list cannot be read". Other errors pass unchanged.
    """
    try:
        yield
    except (ImportError, OSError, ValueError, httpx.InvalidURL):
        flaw = environment_flaw()
        if flaw is None:
            raise
        raise ConfigurationError(f"{fails}: {flaw}.") from None


def environment_flaw() -> str | None:
    """The reason why no call can be made with this environment, and what to correct; None if calls can be made."""
    try:
        httpx.Client().close()
    except OSError as error:
        return f"a file for TLS cannot be opened ({told_with_type(error)}): correct {_named(TLS_VARIABLES)}"
    except httpx.InvalidURL as error:
        # Its text may quote a part of a proxy's password.
        return f"a proxy's address is not valid ({name_of(error)}): correct {_named(PROXY_VARIABLES)}"
    except (ImportError, ValueError) as error:
        return f"no proxy can be used ({told_with_type(error).rstrip('.')}): correct {_named(PROXY_VARIABLES)}"
    return None


def _named(variables: tuple[str, ...]) -> str:
    """Those of the variables that are set, in words."""
    found = sorted(name for name, value in os.environ.items() if value and name.upper() in variables)
    return f"{' and '.join(found or variables)} in the environment of this process"
