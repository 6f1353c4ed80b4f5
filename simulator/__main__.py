"""`python -m simulator simulate …` and `python -m simulator demo …`, without the main command."""

from __future__ import annotations

import typer

from simulator.commands import demo, simulate

app = typer.Typer(add_completion=False, no_args_is_help=True)
app.command()(simulate)
app.command()(demo)

if __name__ == "__main__":
    app()
