"""The same upserts with DBOS Transact: one durable workflow for each event, whose transaction step writes the row.

`benchmarks.against_dbos` runs this with the Python of a virtual environment that has `dbos` and none of our packages.
Prints the seconds from the opening of the queue until every workflow has ended.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from dbos import DBOS, SetWorkflowID, SQLAlchemyDatasource

QUEUE = "events"

#: Threads that run workflows, and further threads for DBOS itself.
MOST_THREADS, SPARE = 64, 4

#: Seconds between two checks for unfinished workflows.
LOOK = 0.02

#: Most seconds that the workflows may take.
TIMEOUT = 300.0


def main(url: str, rows: Path, concurrency: int, polling: float) -> None:
    events = [json.loads(line) for line in rows.read_text().splitlines()]
    address = url.replace("postgresql:", "postgresql+psycopg:")
    # Each workflow at the same time gets a thread and two connections, so that none waits. The server allows that many.
    threads = min(concurrency, MOST_THREADS) + SPARE
    DBOS(
        config={
            "name": "benchmark",
            "system_database_url": address,
            "sys_db_pool_size": threads,
            "max_executor_threads": threads,
            "log_level": "WARNING",
        }
    )
    datasource = SQLAlchemyDatasource.create(address, engine_kwargs={"pool_size": threads, "max_overflow": 0})
    upsert = sa.text(_upsert(events[0]))

    # The default is SERIALIZABLE, which an upsert does not need and which costs more.
    @datasource.transaction(isolation_level="READ COMMITTED")
    def write(event: dict[str, Any]) -> None:
        datasource.sql_session().execute(upsert, event)

    @DBOS.workflow()
    def take(event: dict[str, Any]) -> None:
        write(event)

    DBOS.launch()
    # Open the queue only after all events are in it, as they are in an inbox.
    queue = DBOS.register_queue(QUEUE, worker_concurrency=0, polling_interval_sec=polling)
    for number, event in enumerate(events):
        with SetWorkflowID(f"event-{number}"):
            DBOS.enqueue_workflow(QUEUE, take, event)
    queue.set_worker_concurrency(concurrency)
    began = time.perf_counter()
    _wait_for(sa.create_engine(address), len(events), began + TIMEOUT)
    print(time.perf_counter() - began)
    DBOS.destroy()


def _upsert(event: dict[str, Any]) -> str:
    updates = ", ".join(f"{name} = excluded.{name}" for name in event)
    values = ", ".join(f":{name}" for name in event)
    return (
        f"INSERT INTO products ({', '.join(event)}) VALUES ({values}) "
        f"ON CONFLICT (source, external_id) DO UPDATE SET {updates}"
    )


def _wait_for(engine: sa.Engine, events: int, until: float) -> None:
    """Wait until all workflows have ended. Every one must have succeeded."""
    left = sa.text("SELECT count(*) FROM dbos.workflow_status WHERE status IN ('ENQUEUED', 'PENDING')")
    done = sa.text("SELECT count(*) FROM dbos.workflow_status WHERE status = 'SUCCESS'")
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        while connection.execute(left).scalar() and time.perf_counter() < until:
            time.sleep(LOOK)
        succeeded = connection.execute(done).scalar()
    if succeeded != events:
        raise SystemExit(f"Of {events} workflows of DBOS, only {succeeded} succeeded.")


main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))
