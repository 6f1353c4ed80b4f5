"""`hookmirror search`: its sentence names options, where the API names parameters."""

from __future__ import annotations

from receiver.commands import search
from receiver.search.hits import Hits
from receiver.search.pages import Count


def test_a_search_that_examined_only_some_deliveries_names_the_option_that_goes_on(monkeypatch, capsys):
    found = Hits(text="x", rows=[], deliveries=[], about=Count(0, False, None), looked=[], examined=1_000)
    answer = {"says": found.says, "rows": [], "deliveries": [], "looked": []}

    class Client:
        def ask(self, path, parts, query):
            return answer

    monkeypatch.setattr(search, "client_of", lambda to, token: Client())
    search.search("x")
    assert "filter the list of deliveries by --dedup-key to continue." in capsys.readouterr().out
