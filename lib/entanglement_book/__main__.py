"""``python -m entanglement_book``: the command line that ``make`` calls."""

from entanglement_book.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
