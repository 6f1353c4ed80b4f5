"""The numbers of items on a page, for readers of the database and for clients of the API."""

from __future__ import annotations

#: The default and the largest number of items on a page.
USUAL_PAGE, LARGEST_PAGE = 100, 1_000
