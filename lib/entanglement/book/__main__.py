"""``python -m entanglement.book``: the command line that ``make`` calls."""

from entanglement.book.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
