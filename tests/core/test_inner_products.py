"""The arithmetic of gradients that are never formed, against gradients that are."""

import pytest
import torch

from entanglement.gradients.inner import by_vectors
from entanglement.gradients.layers.embedding import by_embedding
from entanglement.gradients.layers.linear import by_forming, by_linear, one_position
from entanglement.gradients.layers.tied import linear_with_embedding

B, T, S = 3, 5, 4  # pairs, positions, positions of the output matrix


def draw(*shape, seed=0):
    return torch.randn(
        *shape, generator=torch.Generator().manual_seed(seed + sum(shape)), dtype=torch.float64
    )


def by_hand(gradients):
    """(n, R, p) formed gradients → (B, 2n, 2n)."""
    n, rows, _ = gradients.shape
    pairs = rows // 2
    out = torch.zeros(pairs, 2 * n, 2 * n, dtype=torch.float64)
    for b in range(pairs):
        mine = [gradients[k, side * pairs + b] for side in (0, 1) for k in range(n)]
        for i, u in enumerate(mine):
            for j, v in enumerate(mine):
                out[b, i, j] = u @ v
    return out


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize(("d_in", "d_out"), [(40, 50), (2, 3)])
def test_thm_ghost_inner_products_of_gradients_that_are_not_formed(n, d_in, d_out):
    x, delta = draw(2 * B, T, d_in), draw(n, 2 * B, T, d_out, seed=1)
    formed = torch.einsum("nrto,rti->nroi", delta, x).flatten(2)
    torch.testing.assert_close(by_linear(x, delta), by_hand(formed))
    torch.testing.assert_close(by_forming(x, delta), by_hand(formed))


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("padding_idx", [None, 2])
def test_one_weight_as_embedding_and_as_output_matrix(n, padding_idx):
    vocab, d = 6, 7
    ids = torch.randint(0, vocab, (2 * B, T), generator=torch.Generator().manual_seed(3))
    eps = draw(n, 2 * B, T, d, seed=1)
    x, delta = draw(2 * B, S, d, seed=2), draw(n, 2 * B, S, vocab, seed=3)
    embedded = torch.zeros(n, 2 * B, vocab, d, dtype=torch.float64)
    for k in range(n):
        for r in range(2 * B):
            for t in range(T):
                if ids[r, t] != padding_idx:
                    embedded[k, r, ids[r, t]] += eps[k, r, t]
    output = torch.einsum("nrsv,rsd->nrvd", delta, x)
    torch.testing.assert_close(by_embedding(ids, eps, padding_idx), by_hand(embedded.flatten(2)))
    both = by_embedding(ids, eps, padding_idx) + by_linear(x, delta)
    crossed = both + linear_with_embedding(x, delta, ids, eps, padding_idx)
    torch.testing.assert_close(crossed, by_hand((embedded + output).flatten(2)))
    x_one, d_one = draw(n, 2 * B, d, seed=4), draw(n, 2 * B, vocab, seed=5)
    output = torch.einsum("nrv,nrd->nrvd", d_one, x_one)
    torch.testing.assert_close(one_position(x_one, d_one), by_hand(output.flatten(2)))
    crossed = (
        by_embedding(ids, eps, padding_idx)
        + one_position(x_one, d_one)
        + linear_with_embedding(x_one, d_one, ids, eps, padding_idx, one_position=True)
    )
    torch.testing.assert_close(crossed, by_hand((embedded + output).flatten(2)))


@pytest.mark.parametrize("n", [1, 3])
def test_vectors(n):
    vectors = draw(n, 2 * B, 9)
    torch.testing.assert_close(by_vectors(vectors), by_hand(vectors))
