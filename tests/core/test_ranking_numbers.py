"""What the chapter on rankings says is read off its tables as it says."""

import pandas as pd
import pytest

from entanglement_book.studies.ch15_ranking import numbers, tables


def means(way, seed, chosen, rejected, step=32, update="way"):
    row = {update: way, "seed": seed, "step": step, "set": "test", "chosen": chosen, "rejected": rejected}
    return row | {"margin": chosen - rejected}


def test_the_last_step_of_each_way_counts():
    table = pd.DataFrame(
        [
            means("a", 0, 9.0, 9.0, step=16, update="update"),
            means("a", 0, 1.0, 0.5, update="update"),
            means("b", 0, 2.0, 0.5, step=64, update="update"),
            means("b", 0, 7.0, 7.0, update="update") | {"set": "trained"},
        ]
    )
    found = tables.last_of(table)
    assert sorted(found["chosen"]) == [1.0, 2.0]


def test_contrast_is_compared_with_its_labels_swapped_seed_by_seed():
    rows, probes = [], []
    ways = {"infonce": 0.3, "infonce-swapped": 0.2, "infonce-half": 0.1, "sft": 0.0, "dpo": 0.9}
    for way, margin in ways.items():
        for seed in (0, 1):
            rows.append(means(way, seed, -1.0 + seed, -1.0 + seed - margin))
            for moment, probe in (("before", 0.6), ("after", 0.6 + margin / 10)):
                probes.append(
                    {"way": way, "seed": seed, "moment": moment, "probe": probe, "chance": 0.5}
                    | {"likelier": 0.7, "nearer": 0.5, "contrast": 3.0}
                )
    found = numbers.of_contrast({"means": pd.DataFrame(rows), "probes": pd.DataFrame(probes)})
    assert found["labels_margin"].value == pytest.approx(0.1)
    assert found["nce_probe"].value == pytest.approx(3.0)
    # together: −1.15 and −0.15; apart: 0.3
    assert found["more_together"].value == pytest.approx((1.15 + 0.15) / 2 - 0.3)


def test_the_time_of_a_step_is_that_of_its_line():
    lines = [{"ours": "normalized, nano", "ratio": 0.5}]
    assert tables.step_time(lines, "normalized") == 2
    with pytest.raises(ValueError, match="no line"):
        tables.step_time(lines, "split")
