"""Shapes of language models: their sizes, and the same with random weights.

Time and memory do not depend on what the weights are, so that no checkpoint is needed to measure either.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from entanglement_book.bench.ways import gpt2_shape

__all__ = ["HEAD", "LLAMA_8B", "Shape", "make_model"]

#: Width of an attention head in the models that are measured.
HEAD = 64
#: Positions that GPT-2's table has.
_POSITIONS = 1024


@dataclass(frozen=True)
class Shape:
    """The sizes of a model.

    Attributes:
        family: "gpt2" (one weight for embedding and head, biases, a table of positions, an inner width of
            four times the width) or "llama" (two weights, gated inner layer, groups of heads share their keys
            and values).
        width: d, of the residual stream.
        layers: L.
        vocabulary: V.
        inner: m, of the feed-forward part.
        shared: heads that share one head of keys and values.
        head: width of an attention head.
    """

    family: str
    width: int
    layers: int
    vocabulary: int
    inner: int
    shared: int = 1
    head: int = HEAD

    @staticmethod
    def of(family: str, width: int, layers: int, vocabulary: int) -> Shape:
        """Return a shape of the measured kind: Llama's inner width is about 8/3 of the width, and two heads
        share their keys and values.

        Raises:
            ValueError: another family.
        """
        if family == "gpt2":
            return Shape(family, width, layers, vocabulary, 4 * width)
        if family == "llama":
            return Shape(family, width, layers, vocabulary, 16 * round(width / 6), shared=2)
        raise ValueError(f"family={family!r}; expected gpt2 or llama.")

    @property
    def matrices(self) -> tuple[tuple[int, int], ...]:
        """(entering, leaving) widths of the linear maps of one layer."""
        d, m, kv = self.width, self.inner, self.width // self.shared
        if self.family == "gpt2":
            return ((d, 3 * d), (d, d), (d, m), (m, d))
        return ((d, d), (d, kv), (d, kv), (d, d), (d, m), (d, m), (m, d))

    @property
    def layer_weights(self) -> int:
        """Entries of the linear maps of one layer."""
        return sum(one * other for one, other in self.matrices)

    @property
    def parameters(self) -> int:
        """P, all parameters; a weight that is used twice counts once."""
        d, table = self.width, self.vocabulary * self.width
        if self.family == "gpt2":
            biases = sum(leaving for _, leaving in self.matrices)
            return self.layers * (self.layer_weights + biases + 4 * d) + 2 * d + table + _POSITIONS * d
        return self.layers * (self.layer_weights + 2 * d) + d + 2 * table


#: Meta-Llama-3-8B-Instruct (its published ``config.json``).
LLAMA_8B = Shape("llama", 4096, 32, 128256, 14336, shared=4, head=128)


def make_model(shape: Shape, seed: int = 0) -> PreTrainedModel:
    """Return a model of a shape with random weights, in evaluation mode, float32."""
    if shape.family == "gpt2":
        return gpt2_shape(shape.width, shape.layers, shape.vocabulary, seed)
    heads = shape.width // shape.head
    config = LlamaConfig(
        vocab_size=shape.vocabulary, hidden_size=shape.width, intermediate_size=shape.inner,
        num_hidden_layers=shape.layers, num_attention_heads=heads,
        num_key_value_heads=heads // shape.shared, max_position_embeddings=4096,
    )  # fmt: skip
    torch.manual_seed(seed)
    return LlamaForCausalLM(config).eval()
