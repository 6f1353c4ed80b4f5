"""The walk through a source's own list, one page at a time, from a mark to the next.

Each page is compared and repaired in a transaction of its own, which also stores the mark. So a walk can be paused,
cancelled, and resumed by another process after a kill. Missing rows are deactivated only after a complete walk.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from itertools import takewhile
from typing import Any, TypeVar

from sqlalchemy import Connection

from receiver.database.database import Database
from receiver.dialects.listing import ListPart, Wanted
from receiver.dialects.sources import Source
from receiver.errors import ApiError, EndlessListError, UnsteadyListError
from receiver.mirror.rows import Key, MirrorRow, Write, child_tables, table_name
from receiver.reconcile import misdated, missing, seen
from receiver.reconcile.endless import note_page
from receiver.reconcile.listing import ListAnswer, LookupAnswers, SourceList
from receiver.reconcile.lookup import wanted
from receiver.reconcile.mark import Mark, Stage
from receiver.reconcile.misdated import parents_first, tables_from_the_top
from receiver.reconcile.question import Asking
from receiver.reconcile.rows import has_long_id, key_of, news
from receiver.reconcile.seen import Keep, SeenKeys, count_listed, next_named
from receiver.reconcile.steps import Foresee, StepWriter, WalkStep, keys_of
from receiver.reconcile.tables import Transact, read_from, transact_on
from receiver.reconcile.window import Window, open_window

#: The rows that one transaction dates back or deactivates, and the children of several parents that go with them: few,
#: so that the endpoint never waits long for its turn.
REPAIRED_AT_ONCE = 200

#: The number of rows that are looked up one by one, or deactivated with their children, between two marks.
LOOKUPS_AT_ONCE = 20

#: The number of walks through a list that changes during each of them, after which nothing is deactivated.
WALKS = 3

#: The number of times that a stream is begun without reaching its end, after which nothing is deactivated.
MOST_BREAKS = 5

Result = TypeVar("Result")


class Walk:
    """Walks through the list of one source. `step` processes one page; the caller decides when."""

    def __init__(
        self,
        database: Database,
        source: Source,
        asking: Asking | None,
        *,
        clock: Callable[[], datetime],
        keep: Keep = lambda _connection, _mark: None,
        transact: Transact | None = None,
        run: int | None = None,
        waits: bool = False,
        foresee: Foresee = lambda _: None,
    ) -> None:
        """`keep` stores the mark within the transaction that leads to it. Without `asking` no list is read.

        `transact` runs the transactions, plain ones of the database by default. `run` is the run to which the changes
        belong. `waits` says whether a step that fails is tried again.
        """
        transact = transact or transact_on(database)
        self._database, self._source = database, source
        self._source_list = None if asking is None else SourceList(source, asking, waits=waits)
        self._clock = clock
        self._seen = SeenKeys(database, keep, transact)
        self._writer = StepWriter(database, self._seen, clock=clock, transact=transact, run=run, foresee=foresee)
        listing = source.dialect.listing_of
        self._parts: tuple[ListPart, ...] = () if listing is None else listing.parts
        #: The listed tables, parents first, because the children of a missing row go with it. Otherwise in the order of
        #: the list, because marks of earlier releases hold positions in it.
        self._tables = [] if listing is None else parents_first(listing.tables)
        #: The first page, read early to learn the moment from which the list counts.
        self._first: ListAnswer | None = None

    def step(self, mark: Mark) -> WalkStep:
        """Process one page, and return the mark from which to continue.

        Raises `ApiError` if the list cannot be read; the stored mark stays valid.
        """
        mark, tries = mark.copy(), mark.tries
        stages: dict[Stage, Callable[[Mark], WalkStep]] = {
            Stage.BEGIN: self._begin,
            Stage.MISDATED: self._date_back,
            Stage.PAGES: self._read_page,
            Stage.CHECK: self._check,
            Stage.DETAILS: self._read_details,
            Stage.MISSING: self._deactivate,
        }
        try:
            return self._look_again(mark) if mark.again else stages[mark.stage](mark)
        except ApiError as error:
            if isinstance(error, EndlessListError) or mark.tries > tries:
                self._seen.flush(mark)
            raise

    def finish(self, mark: Mark) -> None:
        """Drop the keys that the walk has seen."""
        seen.drop(self._database, mark.run)

    # ── the stages ────────────────────────────────────────────────────────────────────────────────────────────

    def _begin(self, mark: Mark) -> WalkStep:
        window = open_window(self._database, mark.source)
        mark.low, mark.seq, mark.stage = window.low, window.seq, Stage.MISDATED
        if mark.only_misdated:
            mark.as_of = self._clock()
        else:
            self._first = self._page(mark, window)
            mark.as_of = self._first.as_of
        self._seen.flush(mark)
        return WalkStep(mark)

    def _date_back(self, mark: Mark) -> WalkStep:
        tables = tables_from_the_top()
        while mark.part < len(tables):
            keys = self._misdated(mark, tables[mark.part])
            if keys:
                break
            mark.part, mark.after = mark.part + 1, ""
        else:
            mark.part, mark.stage = 0, Stage.DONE if mark.only_misdated else Stage.PAGES
            self._seen.flush(mark)
            return WalkStep(mark)
        mark.after = keys[-1].external_id
        return self._writer.date_back(mark, keys)

    def _read_page(self, mark: Mark) -> WalkStep:
        part = self._parts[mark.part]
        if part.walk is not None and mark.start is not None and not self._list.is_under_way:
            mark = self._stream_again(mark, part)
            if mark.plan:
                return WalkStep(mark)
        answer = self._first or self._next_page(mark)
        self._first = None
        page = answer.page
        keys = {key_of(mark.source, row): row for row in page.rows}
        known = self._seen.known(mark, keys, walk=mark.walk)
        mark.read += len(page.rows)
        note_page(mark, part, page, new=keys.keys() - known)
        if part.walk is None:
            mark.repeats |= bool(known)
            if page.total is not None and page.total not in mark.totals:
                mark.totals = [*mark.totals, page.total][:2]
            if page.next is not None:
                mark.split = sorted({*mark.split, *map(table_name, part.tables[: 1 if part.names_only else None])})
        mark.start = page.next
        if page.next is None:
            mark.stage = Stage.CHECK
        # A forecast writes nothing, so it would foresee again the changes of a row that came before, or in an answer.
        foreseen = self._seen.listed(mark, keys) if mark.plan else set[Key]()
        self._seen.add(keys, mark.walk)
        keys = {key: row for key, row in keys.items() if key not in foreseen}
        if part.names_only:
            # Counted here, because no question is asked for these.
            news(mark, filter(has_long_id, page.rows), answer.window, answer.as_of)
            self._seen.flush(mark, now=False)
            return WalkStep(mark)
        writes = news(mark, keys.values(), answer.window, answer.as_of)
        return self._writer.let_in(mark, writes, answer.window, answer.as_of, can_ask=self._can_ask(mark))

    def _check(self, mark: Mark) -> WalkStep:
        """Continue with the next part, or walk through this one again if it changed while it was read."""
        self._seen.flush(mark)
        part = self._parts[mark.part]
        found = self._read(lambda connection: count_listed(connection, mark, table=part.tables[0]))
        change = None if part.walk is not None else mark.change_of_list(table_name(part.tables[0]), found)
        if change is not None:
            return self._walk_again(mark, change)
        mark.begin_walk(mark.walk)
        mark.stage = Stage.DETAILS if part.names_only else self._after_part(mark)
        self._seen.flush(mark)
        return WalkStep(mark)

    def _walk_again(self, mark: Mark, change: str) -> WalkStep:
        """Read a part again that changed while it was read; in a forecast, everything."""
        walks = mark.forecast if mark.plan else mark.walk
        if mark.plan:
            mark = self._forecast_anew(mark, number=mark.forecast + 1)
        else:
            mark.begin_walk(mark.walk + 1)
            mark.stage = Stage.PAGES
            self._seen.flush(mark)
        if walks % WALKS == 0:
            raise UnsteadyListError(
                f"The list of {mark.source} changed while it was read, {WALKS} times, so nothing was deactivated: "
                f"{change}. Run this again later."
            )
        return WalkStep(mark)

    def _stream_again(self, mark: Mark, part: ListPart) -> Mark:
        """Go back to the beginning of a stream that broke off or that another process began; in a forecast, of all."""
        mark.breaks += 1
        if mark.plan:
            mark = self._forecast_anew(mark, number=mark.forecast)
        else:
            seen.drop(self._database, mark.run, tables=part.tables)
            mark.begin_walk(mark.walk)
        if mark.breaks % MOST_BREAKS == 0:
            self._seen.flush(mark)
            raise UnsteadyListError(
                f"The list of {mark.source} was not read to its end in {MOST_BREAKS} attempts, because it broke off or "
                "its process ended, so nothing was deactivated: run this again when the source is steady."
            )
        return mark

    def _forecast_anew(self, mark: Mark, *, number: int) -> Mark:
        """Begin the forecast again. Continuing would count its changes twice."""
        beginning = mark.anew(now=self._clock(), forecast=number)
        self._seen.flush(beginning)
        seen.drop(self._database, mark.run)
        return beginning

    def _read_details(self, mark: Mark) -> WalkStep:
        table = self._parts[mark.part].tables[0]
        ids = self._read(lambda connection: next_named(connection, mark, table, limit=LOOKUPS_AT_ONCE))
        if not ids:
            mark.after = ""
            mark.stage = self._after_part(mark)
            self._seen.flush(mark)
            return WalkStep(mark)
        window = open_window(self._database, mark.source)
        answers = self._list.look_up(mark, [Wanted(table, external_id) for external_id in ids], window)
        asked = {Key(table, mark.source, each) for each in ids[: answers.asked]}
        mark.after, mark.read = ids[answers.asked - 1], mark.read + len(answers.rows)
        known = self._seen.listed(mark, answers.keys(mark.source)) - asked if mark.plan else set()
        # A forecast foresees the other rows in an answer once: before, or when it asks for them.
        writes = [write for write in self._found(mark, answers) if write.key not in known]
        # Contained in an earlier page, and missing now.
        self._seen.add(answers.gone, 0)
        self._spare_children(mark, answers)
        return self._writer.let_in(mark, writes, window, answers.as_of, can_ask=self._can_ask(mark))

    def _deactivate(self, mark: Mark) -> WalkStep:
        while mark.part < len(self._tables):
            table, asks = self._tables[mark.part], self._asks_for_missing(mark)
            limit = LOOKUPS_AT_ONCE if asks or child_tables(table) else REPAIRED_AT_ONCE
            if not mark.after:
                # Answers about rows of an earlier table may have listed rows of this one.
                self._seen.flush_waiting(mark)
            keys: Sequence[Key] = self._read(partial(missing.next_missing, mark=mark, table=table, limit=limit))
            if keys:
                break
            mark.part, mark.after = mark.part + 1, ""
        else:
            self._seen.flush(mark)
            mark.listed = self._read(lambda connection: count_listed(connection, mark))
            mark.stage = Stage.DONE
            self._seen.flush(mark)
            return WalkStep(mark)
        keys = self._few(keys)
        if asks:
            answers = self._ask_for(mark, keys)
            mark.after = keys[answers.asked - 1].external_id
            return self._apply_answers(mark, answers)
        mark.after = keys[-1].external_id
        writes = self._writer.gone(mark, keys, mark.window, mark.counts_from)
        return self._writer.let_in(mark, writes, mark.window, mark.counts_from)

    def _few(self, keys: Sequence[Key]) -> Sequence[Key]:
        """The first of these rows that one transaction may deactivate with their children; always at least one."""
        if len(keys) == 1 or not child_tables(keys[0].table):
            return keys
        return self._read(partial(missing.first_families, keys=keys, most=REPAIRED_AT_ONCE))

    def _asks_for_missing(self, mark: Mark) -> bool:
        """Whether to look up a missing row first, because it may have moved to a page that was read before."""
        table, lookup = self._tables[mark.part], self._source.dialect.lookup_of
        return not mark.plan and lookup is not None and table in lookup.tables and table_name(table) in mark.split

    def _look_again(self, mark: Mark) -> WalkStep:
        """Look up again the rows about which a delivery arrived before the source answered."""
        keys = keys_of(mark, mark.again[:LOOKUPS_AT_ONCE])
        answers = self._ask_for(mark, self._few(list(takewhile(lambda key: key.table is keys[0].table, keys))))
        mark.again = mark.again[answers.asked :]
        # These answers are newer than the list, so children that it contained go with their parent.
        return self._apply_answers(mark, answers, with_listed=True)

    def _ask_for(self, mark: Mark, keys: Sequence[Key]) -> LookupAnswers:
        """Look up these rows, or the first of them."""
        window = open_window(self._database, mark.source)
        return self._list.look_up(mark, [wanted(self._database, key) for key in keys], window)

    def _apply_answers(self, mark: Mark, answers: LookupAnswers, *, with_listed: bool = False) -> WalkStep:
        """Write what the source answered, and that the other rows are gone."""
        window, as_of = answers.window, answers.as_of
        self._spare_children(mark, answers)
        gone = self._writer.gone(mark, answers.gone, window, as_of, with_listed=with_listed)
        writes = [*self._found(mark, answers), *gone]
        return self._writer.let_in(mark, writes, window, as_of)

    def _spare_children(self, mark: Mark, answers: LookupAnswers) -> None:
        """Let no child of an unanswered row count as missing, because it may come with the answer alone."""
        if answers.unanswered:
            unheard = partial(missing.active_children, parents=answers.unanswered)
            self._seen.add(self._read(unheard), mark.walk)

    def _found(self, mark: Mark, answers: LookupAnswers) -> list[Write]:
        """Make the news that the source has these rows, and note that it listed them."""
        self._seen.add(answers.keys(mark.source), mark.walk)
        return news(mark, answers.rows, answers.window, answers.as_of)

    # ── helpers of the stages ─────────────────────────────────────────────────────────────────────────────────

    @property
    def _list(self) -> SourceList:
        assert self._source_list is not None, "a walk through a list has a source to ask"
        return self._source_list

    def _next_page(self, mark: Mark) -> ListAnswer:
        """Read the page at the mark. If that fails, store the mark, so that the walk continues with this page."""
        try:
            return self._page(mark, open_window(self._database, mark.source))
        except Exception:
            self._seen.flush_waiting(mark)
            raise

    def _page(self, mark: Mark, window: Window) -> ListAnswer:
        return self._list.read(self._parts[mark.part], mark, window)

    def _can_ask(self, mark: Mark) -> Sequence[type[MirrorRow]]:
        """The tables whose rows are looked up again if a delivery about them arrived before the source answered."""
        lookup = self._source.dialect.lookup_of
        return () if lookup is None or mark.plan else lookup.tables

    def _misdated(self, mark: Mark, table: type[MirrorRow]) -> list[Key]:
        which: dict[str, Any] = {"as_of": mark.counts_from, "after": mark.after, "limit": REPAIRED_AT_ONCE}
        return self._read(lambda connection: misdated.misdated_keys(connection, mark.source, table, **which))

    def _read(self, question: Callable[[Connection], Result]) -> Result:
        return read_from(self._database, question)

    def _after_part(self, mark: Mark) -> Stage:
        """Continue with the next part of the list, or after the last one. Returns the stage that follows."""
        # Not a number of an earlier part, whose answers may have named rows of this one.
        mark.part, mark.walk = mark.part + 1, -(-mark.walk // WALKS) * WALKS + 1
        if mark.part < len(self._parts):
            return Stage.PAGES
        mark.part = 0
        return Stage.MISSING
