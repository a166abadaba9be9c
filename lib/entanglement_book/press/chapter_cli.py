"""The command ``new-chapter``."""

from __future__ import annotations

from typing import Annotated

import typer

from entanglement.cli import make_app
from entanglement_book.options import RootOption, book_at

__all__ = ["app"]

app = make_app("A new chapter.")


@app.command(name="new-chapter")
def new_chapter(
    name: Annotated[
        str,
        typer.Argument(
            help="Name of its files, without a number, such as contrastive_losses.", metavar="NAME"
        ),
    ],
    part: Annotated[
        str | None,
        typer.Option(
            help="Part at whose end it stands: its caption, or what stands before the caption's period (IV).",
            show_default="the last part with numbers",
            metavar="CAPTION",
        ),
    ] = None,
    title: Annotated[
        str | None, typer.Option(help="Title of the page.", show_default="made from the name", metavar="TEXT")
    ] = None,
    root: RootOption = None,
) -> int:
    """Make a chapter that runs, to be written over.

    A notebook in the form of all chapters, the folder of its study, its line in _toc.yml and one claim in
    book/claims.yml. Its number is the next one of its part; no other chapter gets another number.

    Examples:

    - `entanglement-book new-chapter contrastive_losses --title "Contrastive losses"`
    - `entanglement-book new-chapter proofs_of_rewards --part Appendix`
    """
    from entanglement_book.press.new_chapter import plan, write

    at = book_at(root)
    new = plan(at, name, part, title)
    write(new)
    for path in (*new.files, *new.changed):
        print(f"{'wrote' if path in new.files else 'added to'} {path.relative_to(at.root)}")
    print(f"see it run: entanglement-book execute --scale smoke --only {new.chapter}", flush=True)
    return 0
