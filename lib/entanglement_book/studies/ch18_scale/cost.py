"""What a work costs, derived from the sizes of model and batch: matrix products, memory, and what is moved.

Products: a linear map of T tokens from d_in to d_out is 2 T d_in d_out operations; the scores of attention
and what it takes from the values are 4 T² d a sequence and layer, the whole square, as PyTorch's counter has
it; the head multiplies only where a response's token is predicted. A backward pass is two such passes, one
for what entered and one for the weights, and attention computes its scores once more.

Memory is counted from what PyTorch keeps for the backward pass. It is the peak above what lies there before:
the weights, and for a training step the optimizer's two moments and the reference.
"""

from __future__ import annotations

from dataclasses import dataclass

from entanglement_book.studies.ch18_scale.architectures import Shape

__all__ = [
    "Rows",
    "forward_operations",
    "held_in_training",
    "moved",
    "operations",
    "peak",
    "saved_per_token",
    "tokens",
]

#: Backward over forward: of a linear map, of attention.
_BACK, _BACK_ATTENTION = 2.0, 2.5


@dataclass(frozen=True)
class Rows:
    """A batch of pairs of one length.

    Attributes:
        prompt, response: tokens of the prompt and of each response.
        pairs: how many.
        shared: whether the prompt is computed once for both responses.
    """

    prompt: int
    response: int
    pairs: int
    shared: bool = True

    @property
    def sequences(self) -> int:
        """Rows of the batch."""
        return self.pairs if self.shared else 2 * self.pairs

    @property
    def length(self) -> int:
        """Tokens of a row."""
        return self.prompt + self.response * (2 if self.shared else 1)

    @property
    def read(self) -> int:
        """Positions of a row at which the head is read; both responses begin after the same token."""
        return 2 * self.response - 1 if self.shared else self.response

    @property
    def apart(self) -> Rows:
        """The same pairs as two sequences each."""
        return Rows(self.prompt, self.response, self.pairs, shared=False)


def tokens(rows: Rows) -> int:
    """Return how many tokens go through the layers."""
    return rows.sequences * rows.length


def forward_operations(shape: Shape, rows: Rows) -> tuple[float, float]:
    """Return the operations of one forward pass: of linear maps, and of attention."""
    linear = 2 * tokens(rows) * shape.layers * shape.layer_weights
    head = 2 * rows.sequences * rows.read * shape.width * shape.vocabulary
    attention = 4 * rows.sequences * rows.length**2 * shape.width * shape.layers
    return float(linear + head), float(attention)


def operations(work: str, shape: Shape, rows: Rows) -> float:
    """Return the operations of a work of ``works.WORKS``; ``rows`` as laid out with a shared prompt.

    Raises:
        ValueError: an unknown work.
    """
    if work == "geometry":
        linear, attention = forward_operations(shape, rows.apart)
        return 2 * linear + (1 + _BACK_ATTENTION) * attention + _inner_products(shape, rows.apart)
    linear, attention = forward_operations(shape, rows)
    back = _BACK * linear + _BACK_ATTENTION * attention
    found = {
        "logps": linear + attention,
        "virtual": linear + attention,
        "step": 2 * (linear + attention) + back,  # the reference's pass, the policy's, and back
        "gradient": 2 * (linear + attention + 2 * back),  # two batches, a backward pass for each side
    }
    if work not in found:
        raise ValueError(f"work={work!r}; expected geometry, {', '.join(found)}.")
    return found[work]


def _inner_products(shape: Shape, rows: Rows) -> float:
    """Return what the inner products of the pairs' gradients take, by the rule of ``gradients``: position by
    position, or by forming the gradients, whichever multiplies less.
    """
    d, long, read = shape.width, rows.length, rows.read
    maps = [*(shape.layers * [(*sizes, long) for sizes in shape.matrices]), (d, shape.vocabulary, read)]
    total = 0.0
    for entering, leaving, positions in maps:
        by_positions = 3 * positions**2 * (entering + leaving)
        formed = (2 * positions + 3) * entering * leaving
        both = (4 * positions + 8) * entering * leaving  # both sides' gradients, and four products of them
        total += both if formed < by_positions else 2 * by_positions
    embeddings = 2 if shape.family == "gpt2" else 1  # of tokens, and GPT-2's of positions
    total += embeddings * 6 * long**2 * d
    if shape.family == "gpt2":
        total += 12 * read * long * d  # the embedding with the head, which is the same weight
    return rows.pairs * total


def saved_per_token(shape: Shape, *, read: bool = False) -> int:
    """Return how many numbers a layer keeps of a token for its backward pass, as PyTorch's operations keep
    them.

    GPT-2, 8 d + 2 m: what enters and what leaves the first normalization, queries, keys and values (3), what
    attention returns, what enters and what leaves the second normalization; what enters and leaves the GELU.
    Llama, 10 d + 4 m: three of either normalization, queries, keys and values spread over all heads, what
    attention returns; four of the gated inner layer.

    Args:
        shape: of the model.
        read: whether gradients are read on the way, as the pair geometry does, which also keeps what each
            linear map returns. (Its sequences have no mask of their own, and keys and values need not be
            spread.)
    """
    d, m = shape.width, shape.inner
    if shape.family == "gpt2":
        return 8 * d + 2 * m + (2 * d if read else 0)
    return 11 * d + 3 * (d // shape.shared) + 4 * m if read else 10 * d + 4 * m


def held_in_training(shape: Shape, rows: Rows, *, read: bool = False) -> float:
    """Return how many numbers a pass forward and back holds at most besides gradients: what its layers keep,
    and, where the backward pass begins, three arrays of the size of the responses' logits, or what the last
    layer's inner part takes on the way back.
    """
    last = (3 if shape.family == "gpt2" else 4) * tokens(rows) * shape.width
    mask = rows.sequences * rows.length**2 if rows.shared else 0
    picked = 2 * rows.pairs * rows.response * shape.vocabulary
    kept = tokens(rows) * shape.layers * saved_per_token(shape, read=read)
    back = tokens(rows) * (2 * shape.width + 2 * shape.inner)
    back += 0 if read else shape.width * shape.inner  # the gradient of its map
    return float(kept + last + mask + max(3 * picked, back))


def peak(work: str, shape: Shape, rows: Rows, size: int = 4) -> float:
    """Return the peak memory of a work, bytes, above weights, moments and reference; ``size`` is a number's.

    Raises:
        ValueError: an unknown work.
    """
    table = shape.vocabulary * shape.width
    logits = rows.sequences * rows.read * shape.vocabulary  # at the positions that are read
    picked = 2 * rows.pairs * rows.response * shape.vocabulary  # at each response token
    mask = rows.sequences * rows.length**2
    weights = shape.parameters
    d, m = shape.width, shape.inner
    at_once = 2 * d + 5 * m if shape.family == "gpt2" else max(5 * d + 3 * m, 9 * d)
    layer = tokens(rows) * at_once  # GPT-2's GELU is eight operations where no gradient is wanted
    alone = max(logits + 2 * picked, layer) + mask
    through = held_in_training(shape, rows)
    kept = tokens(rows) * shape.layers * saved_per_token(shape)
    through = max(through, kept + mask + logits + table)
    found = {
        "logps": alone,
        "virtual": weights + alone,  # the weights are kept, to be put back
        "step": max(through, weights + 2 * table),  # at the head, or when the optimizer steps
        # Two sides of two halves, their squares, the batch before, two sums and a side's gradient.
        "gradient": 10 * weights + max(through, weights + 2 * table),
        "geometry": held_in_training(shape, rows.apart, read=True),
    }
    if work not in found:
        raise ValueError(f"work={work!r}; expected {', '.join(found)}.")
    return float(size * found[work])


#: Bytes from which on the C library's allocator takes an array from the system and gives it back, whose pages
#: are then zeroed anew each time (M_MMAP_THRESHOLD of mallopt(3), its largest value on 64 bits).
_LARGE = 1 << 25
#: Work → forward passes that its layers' operations amount to, a backward pass being two; numbers read or
#: written for each parameter outside of products; arrays of the logits' size, and of the embedding table's.
_MOVES: dict[str, tuple[int, int, int, int]] = {
    "logps": (1, 0, 3, 0),
    "virtual": (1, 7, 3, 1),
    "geometry": (3, 0, 8, 0),
    "step": (4, 22, 9, 5),
    "gradient": (10, 80, 18, 35),
}


def moved(work: str, shape: Shape, rows: Rows) -> dict[str, float]:
    """Return what a work takes besides its matrix products, for the constants that are fitted.

    Returns:
        "numbers": what other operations read or write, of activations; "weights": the same of parameters;
        "calls": layers that are gone through; "fresh": numbers in arrays so large that the system hands them
        out anew each time.
    """
    laid = rows.apart if work == "geometry" else rows
    passes, weights, logits, tables = _MOVES[work]
    read, table = laid.sequences * laid.read * shape.vocabulary, shape.vocabulary * shape.width
    one = tokens(laid) * shape.layers * saved_per_token(shape) + 4 * read
    fresh = sum(count * size for count, size in ((logits, read), (tables, table)) if 4 * size >= _LARGE)
    return {
        "numbers": float(passes * one),
        "weights": float(weights * shape.parameters),
        "calls": float(passes * shape.layers),
        "fresh": float(fresh),
    }
