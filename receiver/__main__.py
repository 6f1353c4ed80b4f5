"""`python -m receiver`: the command `hookmirror`, also for the processes that it starts."""

from __future__ import annotations

from receiver.metrics.sharing import reserve


def main() -> None:
    """Run the command, once there is what must be there before its imports."""
    reserve()
    from receiver.cli import main as command

    command()


if __name__ == "__main__":
    main()
