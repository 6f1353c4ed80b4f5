"""The command `hookmirror`, and `python -m receiver` for the processes that it starts."""

from __future__ import annotations

from receiver.interrupts import EndingAtOnce


def main() -> None:
    """Run the command, after preparing the standard streams and the metrics files, which its imports need."""
    with EndingAtOnce():
        from receiver.logs.standard_error import prepare_standard_streams
        from receiver.metrics.sharing import reserve

        prepare_standard_streams()
        reserve()
        from receiver.cli import main as command

    command()


if __name__ == "__main__":
    main()
