"""``accelerate launch -m entanglement_book.scale``: one training, on as many processes as are started."""

from entanglement_book.scale.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
