"""The callback's overhead: which steps are compared, on a run that is really made, and what is said of it."""

from __future__ import annotations

import pytest

from entanglement.auditing.callback import EntanglementCallback
from entanglement_book.bench import watching
from entanglement_book.cli import main

ROWS = [{"prompt": f"The film {k} is", "chosen": " good", "rejected": " bad"} for k in range(4)]


@pytest.mark.filterwarnings("ignore")
def test_a_step_is_timed_with_all_that_callbacks_do_in_it():
    callback = EntanglementCallback(ROWS, every=2)
    assert len(seconds := watching._steps(ROWS, callback, 1, 3)) == 3
    assert [look["step"] for look in callback.seen] == [1, 2]  # so the third is left alone
    assert all(one > 0 for one in seconds)


@pytest.mark.parametrize(("cost", "status"), [(1.3, 0), (1.4, 1)])
def test_looked_at_steps_are_held_against_a_run_without_it(monkeypatch, capsys, cost, status):
    def steps(rows, callback, batch, n):
        """The first takes longer, as it does; every other one is looked at, from the second on."""
        if callback is None:
            return [9.0, *[1.0] * (n - 1)]
        return [9.0, *(cost if k % 2 == 0 else 1.01 for k in range(2, n + 1))]

    monkeypatch.setattr(watching, "_steps", steps)
    monkeypatch.setattr(watching, "tldr_pairs", lambda kind, n, packages: [])
    monkeypatch.setattr("entanglement.auditing.callback.EntanglementCallback", lambda rows, every: every)
    assert main(["bench", "watching"]) == status
    assert f"takes {cost:.2f} times" in (said := capsys.readouterr().out)
    assert "another step 1.01 times" in said
