"""What a cluster refuses, and how it is reached, without starting one."""

import socket
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from entanglement_book.cli import main
from entanglement_book.grids import cluster, run
from entanglement_book.layout import BookError, UsageError, parse_scheduler


class FakeClient:
    """A client whose cluster has some workers."""

    scheduler = SimpleNamespace(address="tcp://a:1")

    def __init__(self, threads):
        self.threads = threads

    def wait_for_workers(self, n_workers, timeout):
        raise TimeoutError

    def scheduler_info(self, n_workers):
        return {"workers": {f"tcp://w:{k}": {"nthreads": n} for k, n in enumerate(self.threads)}}


@pytest.mark.parametrize(("threads", "told"), [((), "no workers"), ((1, 4), "tcp://w:1 has 4 threads")])
def test_a_cluster_that_cannot_compute_cells_one_by_one_is_refused(toy, threads, told):
    with pytest.raises(BookError, match=told):
        cluster.Cluster(FakeClient(threads)).check(toy.grid)


def test_a_cell_that_was_made_by_something_else_is_refused(toy):
    def done(**made):
        kept = {"uses": [["file", "data.txt"]], "made_here": cluster.made_here(toy.grid, uses) | made}
        return SimpleNamespace(exception=lambda: None, result=lambda: kept)

    uses = [("file", "data.txt")]
    assert set(cluster.made_here(toy.grid, uses)) == {"code", "data.txt"}
    whole = cluster.Cluster(FakeClient(()))
    assert whole._kept(toy.grid, done(), "main-a-0") == {"uses": [["file", "data.txt"]]}
    with pytest.raises(BookError, match=r"worker of main-a-0 has data\.txt x where this process has "):
        whole._kept(toy.grid, done(**{"data.txt": "x"}), "main-a-0")
    with pytest.raises(BookError, match="worker of main-a-0 has other code than this process"):
        whole._kept(toy.grid, done(code="x"), "main-a-0")
    assert cluster.difference_of({"a": "1"}, {"a": "1"}) == ""
    assert cluster.difference_of({"a": "1"}, {"b": "2"}) == (
        "b none where this process has 2, a 1 where this process has none"
    )


def test_what_listens_and_is_no_scheduler_is_one_line_soon(monkeypatch):
    monkeypatch.setattr(cluster, "PATIENCE", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"tcp://127.0.0.1:{other.getsockname()[1]}"
        assert parse_scheduler(address) == address
        with (
            pytest.raises(UsageError, match="no Dask scheduler answers") as said,
            cluster.on_cluster(address, 2),
        ):
            pass
        assert len(str(said.value).splitlines()) == 1


def test_the_command_takes_a_scheduler(toy, monkeypatch, capsys):
    asked = []

    @contextmanager
    def on_cluster(scheduler, jobs):
        asked.append((scheduler, jobs))
        yield SimpleNamespace(workers={"a": 1}, compute=run.compute_cells)

    monkeypatch.setattr(cluster, "on_cluster", on_cluster)
    monkeypatch.setattr("entanglement_book.grids.cli._chosen", lambda names: [toy.grid])
    assert main(["results", "run", "--scale", "smoke", "--scheduler", "local", "--jobs", "1"]) == 0
    assert asked == [("local", 1)] and "4 cells, 0 done already" in capsys.readouterr().out
    assert toy.ran() == ["a0", "a1", "b0", "b1"]
