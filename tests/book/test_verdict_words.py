"""What a verdict says of its reason, how a file of verdicts is written, and the whole table of the ledger."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from example_claim import CLAIM

from entanglement_book.ledger import verdicts
from entanglement_book.ledger.claims import Claim, LedgerError
from entanglement_book.ledger.records import Record
from entanglement_book.ledger.verdicts import (
    IN_PART,
    NOT_REPRODUCED,
    NOT_RUN,
    NOT_TESTABLE,
    REPRODUCED,
    Basis,
    Measured,
    Row,
    VerdictFile,
)


def said(claim=CLAIM, value=0.005, scale=None, **record):
    decided = verdicts.verdict(claim, Record("a-claim", value, **{"control": 0.5, **record}), scale)
    return decided.status, decided.why


def test_every_verdict_says_why_in_just_these_words():
    known = replace(CLAIM, reason="It was the seed.")
    assert said() == (REPRODUCED, "")
    assert said(known) == (REPRODUCED, "")
    assert said(value=0.05) == (IN_PART, "only: value <= 0.1")
    assert said(known, value=0.05) == (IN_PART, "It was the seed.")
    assert said(value=0.5) == (NOT_REPRODUCED, "not: value <= 0.01")
    assert said(known, value=0.5) == (NOT_REPRODUCED, "It was the seed.")
    assert said(control=0.05) == (
        NOT_REPRODUCED, "the negative control does not come out the other way: not control > 0.1",
    )  # fmt: skip
    assert said(control=None) == (
        NOT_REPRODUCED, "negative control: rule 'control > 0.1' needs 'control', which was not recorded",
    )  # fmt: skip
    assert said(replace(CLAIM, partly="low > 0"), value=0.5) == (
        NOT_REPRODUCED, "rule 'low > 0' needs 'low', which was not recorded",
    )  # fmt: skip
    assert said(replace(CLAIM, partly=None), value=0.05) == (NOT_REPRODUCED, "not: value <= 0.01")
    later = replace(CLAIM, scales=("book", "paper"))
    assert said(later, scale="smoke") == (NOT_TESTABLE, "needs scale book or paper")
    assert said(later, scale="paper") == said(later, scale=None) == (REPRODUCED, "")
    never = replace(CLAIM, rule=None, control=None, not_testable="needs humans")
    assert said(never, scale="book") == (NOT_TESTABLE, "needs humans")
    nothing = verdicts.verdict(CLAIM, None, "smoke")
    assert (nothing.status, nothing.why) == (NOT_RUN, "03_first has recorded nothing")


def test_a_claim_without_a_control_is_decided_by_its_rule():
    plain = object.__new__(Claim)  # the ledger allows none: whoever builds one has decided so
    for name, value in vars(CLAIM).items():
        object.__setattr__(plain, name, None if name == "control" else value)
    assert verdicts.verdict(plain, Record("a-claim", 0.005)).status == REPRODUCED


def test_the_text_of_a_file_is_sorted_and_ends_its_line():
    record = Record("a-claim", 1.0, note="größer")
    rows = {"b": Row("03", REPRODUCED), "a": Row("03", REPRODUCED, "", record)}
    text = VerdictFile("smoke", rows, {"03": Basis("x", (("loss", "dpo"),))}).dumps()
    assert text == json.dumps(json.loads(text), sort_keys=True, indent=1, ensure_ascii=False) + "\n"
    assert "größer" in text and text.index('"a": {') < text.index('"b": {')
    assert VerdictFile("smoke", rows).records() == {"a": record}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[]", "expected a mapping"),
        ("{", "Expecting property name"),
        ('{"claims": {"a": {"verdict": "x"}}}', r"\(lacks a\.notebook\)"),
        ('{"claims": {"a": {"notebook": "03", "verdict": "x", "more": 1}}}', "more"),
    ],
)
def test_a_damaged_file_says_what_is_wrong_with_it(tmp_path, text, reason):
    path = tmp_path / "smoke.json"
    path.write_text(text)
    with pytest.raises(LedgerError, match=reason) as error:
        VerdictFile.read(path, "smoke")
    assert "SCALE=smoke" in str(error.value) and len(str(error.value)) < 500


def measured(records, stale=(), scale="book"):
    return Measured(scale, records, dict.fromkeys(records, Basis("x", ())), dict(stale))


def test_a_decision_rests_on_the_chapters_that_have_claims_and_ran():
    ledger = [CLAIM, replace(CLAIM, id="other", notebook="06_second")]
    made = verdicts.decide(
        ledger, measured({"03_first": [Record("a-claim", 0.001, control=1.0)], "07_none": []})
    )
    assert made.scale == "book" and set(made.notebooks) == {"03_first"}
    assert {name: row.verdict for name, row in made.claims.items()} == {
        "a-claim": REPRODUCED,
        "other": NOT_RUN,
    }
    assert made.claims["other"] == Row("06_second", NOT_RUN, "06_second has recorded nothing", None)


def test_an_update_writes_a_claim_once_its_chapter_ran_or_its_row_is_there(tmp_path):
    later = replace(CLAIM, id="later", scales=("paper",))
    never = replace(CLAIM, id="never", notebook="06_second", rule=None, control=None, not_testable="no")
    silent = replace(CLAIM, id="silent", notebook="06_second")
    ledger, path = [CLAIM, later, never, silent], tmp_path / "book.json"
    first = measured({"03_first": [Record("a-claim", 0.001, control=1.0)]})
    line = verdicts.update(path, ledger, verdicts.decide(ledger, first))
    assert line == "2 not testable here, 1 reproduced"
    # Not testable rows need no run of their own chapter, once any ran; a silent one waits for its own.
    assert set(VerdictFile.read(path, "book").claims) == {"a-claim", "later", "never"}
    both = measured({"03_first": [Record("a-claim", 0.001, control=1.0)], "06_second": []})
    line = verdicts.update(path, ledger, verdicts.decide(ledger, both))
    assert line == "1 not run, 2 not testable here, 1 reproduced"
    # It keeps its row when its chapter does not run again, and what that row was measured with.
    verdicts.update(path, ledger, verdicts.decide(ledger, first))
    after = VerdictFile.read(path, "book")
    assert set(after.claims) == {"a-claim", "later", "never", "silent"}
    assert set(after.notebooks) == {"03_first", "06_second"}


def test_a_record_that_a_chapter_made_again_replaces_the_old_one_where_it_cannot_be_decided(tmp_path):
    later, path = replace(CLAIM, scales=("paper",)), tmp_path / "book.json"
    for value in (0.3, 0.4):
        made = measured({"03_first": [Record("a-claim", value)]})
        verdicts.update(path, [later], verdicts.decide([later], made))
        assert VerdictFile.read(path, "book").claims["a-claim"].record.value == value


def test_records_without_a_claim_of_their_chapter_are_told_one_by_one():
    records = {"03_first": [Record("a-claim", 1.0)], "06_second": [Record("a-claim", 1.0), Record("x", 1.0)]}
    assert verdicts.without_claim([CLAIM], records) == [
        "06_second records 'a-claim', which is no claim of that chapter in the ledger",
        "06_second records 'x', which is no claim of that chapter in the ledger",
    ]


def test_what_is_told_names_each_side(tmp_path):
    ledger = [CLAIM]
    good = Record("a-claim", 0.001, control=1.0)
    smoke = measured({"03_first": [good]}, scale="smoke")
    recorded = verdicts.decide(ledger, smoke)
    published = replace(recorded, scale="book")

    def told(smoke=smoke, at_smoke=recorded, at_book=published, science=None):
        return verdicts.check(
            ledger, smoke, at_smoke, at_book, {"03_first": "x"} if science is None else science
        )

    assert told() == []
    stale = "book: the verdict on 'a-claim' was not made by today's 03_first (run: make book)"
    assert told(science={}) == [stale] == told(at_book=replace(published, notebooks={}))
    gone = replace(
        recorded, claims=recorded.claims | {"z": Row("03", REPRODUCED), "b": Row("03", REPRODUCED)}
    )
    assert told(at_smoke=gone) == [
        "smoke: a verdict is recorded for 'b', which is not in the ledger",
        "smoke: a verdict is recorded for 'z', which is not in the ledger",
    ]
    assert told(replace(smoke, stale={"03_first": "", "06_second": "changed: code"})) == [
        "smoke: 06_second is to run: changed: code"
    ]
    worse = measured({"03_first": [replace(good, value=0.5)]}, scale="smoke")
    assert told(worse) == [
        "smoke: claim 'a-claim': the verdict was 'reproduced' and is 'not reproduced' not: value <= 0.01"
    ]


def test_the_table_is_that_of_the_book_unless_told_otherwise(tmp_path, monkeypatch):
    for name in ("_toc.yml", "_config.yml"):
        (tmp_path / name).write_text("")
    (tmp_path / "book").mkdir()
    (tmp_path / "book" / "claims.yml").write_text(
        "claims:\n  - {id: a-claim, statement: S, source: own, notebook: 03_first, quantity: q, "
        "rule: value > 0, control: {quantity: c, rule: control < 0}}\n"
        "  - {id: never, statement: S, source: own, notebook: 03_first, quantity: q, not_testable: humans}\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ENTANGLEMENT_RUN_DIR", raising=False)
    row = Row("03_first", REPRODUCED, "", Record("a-claim", 1.0, (0.5, 2.0), 3, -1.0, (-2.0, -0.5), "a note"))
    for scale in ("book", "smoke"):
        claims = {"a-claim": row if scale == "book" else replace(row, verdict=NOT_REPRODUCED)}
        VerdictFile(scale, claims).write(tmp_path / "book" / "verdicts" / f"{scale}.json")
    table = verdicts.ledger_table()
    assert list(table.columns) == [
        "claim", "statement", "source", "notebook", "quantity", "value", "low", "high", "n", "control",
        "control_low", "control_high", "rule", "control_quantity", "control_rule", "verdict", "why", "note",
    ]  # fmt: skip
    first, never = table.to_dict("records")
    assert [first[name] for name in table.columns] == [
        "a-claim", "S", "own", "03_first", "q", 1.0, 0.5, 2.0, 3.0, -1.0, -2.0, -0.5, "value > 0", "c",
        "control < 0", REPRODUCED, "", "a note",
    ]  # fmt: skip
    assert (never["rule"], never["control_quantity"], never["control_rule"], never["note"]) == ("",) * 4
    assert (never["verdict"], never["why"]) == (NOT_RUN, "no verdict is recorded")
    assert list(verdicts.ledger_table(scale="smoke")["verdict"]) == [NOT_REPRODUCED, NOT_RUN]
    given = verdicts.ledger_table([CLAIM], VerdictFile("book"))
    assert list(given["verdict"]) == [NOT_RUN] and np.isnan(given["value"]).all()
    empty = verdicts.ledger_table([], VerdictFile("book"))
    assert list(empty.columns) == list(table.columns) and empty["value"].dtype == float
