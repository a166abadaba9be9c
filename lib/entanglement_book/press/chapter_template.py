"""The notebook of a new chapter, in the form that every chapter has, around a small example that runs.

The study that it imports is ``studies.example``, which is copied. Sentences in italics in square brackets say
what is to stand in their place.
"""

from __future__ import annotations

from nbformat import NotebookNode, v4

from entanglement_book.press.notebooks import INSTALL, dumps, tidy

__all__ = ["claim_row", "notebook_text"]

_HEAD = """# {title}

*[The question with which a reader comes here, in the reader's own words.]*

[The answer in two or three sentences, and what this chapter does to find it.]

**After this chapter you can**

- [read two clouds of pairs on the plane of norm ratio and cosine,]
- [say what a shared ending does to the cosine of a pair's gradients.]

You need {before}. Time to read: [10] minutes. Time to run: seconds.
"""
_PARAMETERS = """scale = "book"  # smoke | book | paper
seed = 0
"""
_IMPORTS = """import torch

from entanglement.stats import mean_interval
from entanglement_book import chapter
from entanglement_book.chapter import claims, put
from entanglement_book.studies.{study} import figures, study

chapter.set_up()
generator = torch.Generator().manual_seed(seed)
"""
_BEFORE = """## [The first step of the argument]

[What is asked, in words and one formula.] Two answers that differ in one token have gradients $g_w$ and
$g_l$. What happens to their cosine $\\rho$ when they end in the same eight tokens?

Predict it before you look at {{numref}}`fig-{name}-plane`: does the cloud move up, or to the right?
"""
_MEASURE = """draws = {"smoke": 40, "book": 400, "paper": 4000}[scale]
kinds = {
    "nothing shared": study.ending_alike(draws, 0, generator),
    "eight tokens shared": study.ending_alike(draws, 8, generator),
}
cosine = {name: mean_interval(g.cosine.numpy()) for name, g in kinds.items()}
{name: f"{mean:.2f}" for name, mean in cosine.items()}
"""
_DRAW = """fig = figures.on_the_plane(kinds)
"""
_CAPTION = (
    "Random log-linear pairs on the plane. Left: answers of one token. Right: the same, and eight shared "
    "tokens."
)
_ALT = (
    "Two planes of norm ratio against gradient cosine. In the left one the pairs lie around cosine zero. "
    "In the right one they lie close together near the top of the tent, all above one half."
)
_AFTER = """The cloud moves up. The mean cosine is {{glue:text}}`rho_shared:.2f` with a shared ending, and
{{glue:text}}`rho_alone:.2f` without.
[What the figure shows, with numbers from the run, and what it does not.]
"""
_RECORD = """# Numbers for the text, and the record for the ledger.
alone, shared = cosine.values()
put(rho_alone=alone, rho_shared=shared)
claims.record("{claim}", shared, control=alone)
"""
_TAIL = """## What we saw

[The answer to the reader's question, in the order of the sections, with its limits.]

## Exercises

:::{{exercise}} [Where do equal gradients lie?]
:label: ex-{name}-1

*Figure · level 1 · 5 minutes · goal 1*

[A task that tests the first goal.] Where on the plane does a pair with $g_l=g_w$ lie?
:::

:::{{solution}} ex-{name}-1
:class: dropdown
At norm ratio 1 and cosine 1, the top of the tent: no step can part the two answers.
:::

## What is not shown

[What was not tried, and what a reader must not conclude.]

## What comes next

[The question that this chapter leaves open, and where it is taken up.]
"""
_CLAIM = """# {title}
- id: {claim}
  statement: Two answers that end in the same tokens have gradients of larger cosine.
  source: own; an example to be replaced
  notebook: {chapter}
  quantity: mean cosine of the two gradients of random log-linear pairs with eight shared tokens at the end
  rule: low > 0.5
  control:
    quantity: the same for pairs that share nothing
    rule: control_high < low
"""


def notebook_text(title: str, study: str, name: str, claim: str, before: str) -> str:
    """Return the text of the notebook, tidied.

    Args:
        title: of the chapter.
        study: name of its study's package.
        name: for labels of figures and exercises, with hyphens.
        claim: id of its claim.
        before: what a reader must know, in Markdown.
    """
    draws = {"figure": {"caption": _CAPTION, "name": f"fig-{name}-plane"}, "image": {"alt": _ALT}}
    words = {"title": title, "study": study, "name": name, "claim": claim, "before": before}

    def code(source: str, *tags: str, **metadata: object) -> NotebookNode:
        return v4.new_code_cell(source, metadata={"tags": list(tags), **metadata})

    def prose(source: str) -> NotebookNode:
        return v4.new_markdown_cell(source.format(**words))

    cells = [
        prose(_HEAD),
        code(INSTALL, "remove-cell"),
        code(_PARAMETERS, "parameters"),
        code(_IMPORTS.format(**words), "imports", "hide-input"),
        prose(_BEFORE),
        code(_MEASURE),
        code(_DRAW, mystnb=draws),
        code(_RECORD.format(**words), "remove-cell"),
        prose(_AFTER),
        prose(_TAIL),
    ]
    return dumps(tidy(v4.new_notebook(cells=cells)))


def claim_row(title: str, chapter: str, claim: str) -> str:
    """Return the row of the ledger, as YAML, under a comment with the chapter's title."""
    return _CLAIM.format(title=title, chapter=chapter, claim=claim)
