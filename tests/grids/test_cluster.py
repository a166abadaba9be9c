"""Cells on a Dask cluster: the same tables, whatever becomes of a worker, and by no other code."""

import shutil

import pytest

from entanglement_book.grids import cluster
from entanglement_book.layout import BookError

OTHERS = ["main-a-0", "main-b-0", "main-b-1"]


def csv_files(toy):
    return {name: content for name, (content, _) in toy.state().items() if name.endswith(".csv")}


def test_a_cluster_makes_the_tables_of_the_usual_way_and_a_killed_worker_loses_nothing(toy_on_cluster):
    toy, found = toy_on_cluster
    toy.run()
    usual = csv_files(toy)
    for folder in (toy.folder, toy.work):
        shutil.rmtree(folder)
    toy.ran()
    (toy.root / "fatal").write_text("a1")
    toy.run(compute=found.compute)
    assert csv_files(toy) == usual
    assert toy.ran() == ["a0", "a1", "a1", "b0", "b1"]
    (lost,) = [line for line in toy.said if "lost" in line]
    assert "main-a-1" in lost and "computed again by another" in lost
    assert [line.split()[0] for line in toy.said if line.startswith("  ") and line != lost] == [
        f"{n}/4" for n in range(1, 5)
    ]
    # What is there is not computed again.
    (toy.folder / "provenance.json").unlink()
    (toy.work / "main-b-0.json").unlink()
    toy.run(compute=found.compute)
    assert toy.ran() == ["b0"] and csv_files(toy) == usual
    assert toy.run(compute=found.compute) == toy.folder and toy.ran() == []


def test_a_cell_with_which_every_worker_dies_is_named_and_the_others_are_kept(toy_on_cluster):
    toy, found = toy_on_cluster
    shutil.rmtree(toy.folder)
    (toy.work / "main-a-1.json").unlink()
    (toy.root / "fatal").write_text("a1 a1")
    found.client.cluster.scheduler.allowed_failures = 0
    with pytest.raises(BookError, match="main-a-1: every worker that computed it died"):
        toy.run(compute=found.compute)
    assert sorted(path.stem for path in toy.work.glob("*.json")) == OTHERS and not toy.folder.exists()
    (toy.root / "fatal").unlink()


def test_a_worker_with_other_packages_is_refused_before_a_cell_is_computed(toy_on_cluster, monkeypatch):
    toy, found = toy_on_cluster
    found.client.wait_for_workers(2, timeout=60)
    toy.ran()
    monkeypatch.setattr(cluster, "versions", lambda names: dict.fromkeys(names, "0.1"))
    with pytest.raises(
        BookError, match=r"^worker tcp://\S+ has torch \S+ where this process has 0\.1, .*pandas"
    ):
        toy.run(compute=found.compute)
    assert toy.ran() == []


def test_a_worker_that_imported_other_code_is_refused(toy_on_cluster):
    toy, found = toy_on_cluster
    found.client.wait_for_workers(2, timeout=60)
    toy.ran()
    toy.edit("return 1 / 3", "return 2 / 3")
    with pytest.raises(BookError, match="this process has code that changed"):
        toy.run(compute=found.compute)
    cluster._at_start.cache_clear()  # as a process does that was started just now
    with pytest.raises(
        BookError, match=r"^worker tcp://\S+ has code that changed on its disk|has other code"
    ):
        toy.run(compute=found.compute)
    assert toy.ran() == []
