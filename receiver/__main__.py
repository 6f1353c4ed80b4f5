"""`python -m receiver` is `hookmirror`."""

from receiver.cli import main

main()
