"""The split of c by token roles: alignment, exact sums, controls, the output layer in closed form."""

from __future__ import annotations

import pandas as pd
import pytest
import torch
from hypothesis import given, strategies as st

from entanglement.gradients import TokenGeometry, pair_geometry, token_geometry
from entanglement.pairs import PreferencePair, collate
from entanglement_book.studies.ch09_tokens.output_layer import output_layer_geometry
from entanglement_book.studies.ch09_tokens.study import (
    KINDS,
    after_first,
    measure_tokens,
    parts_of_cosine,
    parts_of_inner,
    rank_agreement,
    suffix_table,
    summarize_parts,
    token_roles,
    token_table,
    turn_suffix,
)
from entanglement_book.studies.ch09_tokens.taken_away import negative_controls, relabel

PAIRS = [
    PreferencePair("the film was", " positive sentiment what a day", " negative sentiment what a day", "a"),
    PreferencePair("the people", " negative sentiment what a day", " positive sentiment what a day", "b"),
]


def kinds_of(w, l):  # noqa: E741
    return token_roles([*w, *l], len(w)).kinds()


def geometry_of(gram, ids, n_chosen):
    n = len(ids)
    return TokenGeometry(gram, torch.zeros(n), torch.tensor(ids), torch.arange(n), n_chosen, "pair")


# --- roles --------------------------------------------------------------------------------------------------


def test_one_token_each_is_all_contrast():
    assert kinds_of([1], [2]) == [["contrast"]]


def test_edit_distance_one_with_prefix_and_suffix():
    roles = token_roles([7, 1, 8, 9, 7, 2, 8, 9], 4)
    assert roles.shared.tolist() == [True, False, True, True] * 2
    assert roles.partner.tolist() == [0, -1, 2, 3] * 2


def test_suffixes_of_unequal_offset_are_aligned_from_the_end():
    roles = token_roles([1, 8, 9, 2, 3, 8, 9], 3)
    assert roles.partner.tolist() == [-1, 2, 3, -1, -1, 1, 2]
    assert roles.kinds()[1] == ["mixed", "mixed", "same_position", "other_position"]


def test_a_token_that_comes_twice_is_not_aligned_with_its_double():
    assert kinds_of([1, 8, 8], [2, 8, 8])[1] == ["mixed", "same_position", "other_position"]


def test_one_response_a_beginning_of_the_other_uses_no_token_twice():
    roles = token_roles(
        [5, 5, 5, 5, 5], 2
    )  # two of the three rejected tokens have a partner, the last has none
    assert roles.shared.tolist() == [True, True, True, True, False]


@given(
    st.lists(st.integers(0, 3), min_size=1, max_size=6), st.lists(st.integers(0, 3), min_size=1, max_size=6)
)
def test_alignment_is_a_matching_of_equal_tokens(w, l):  # noqa: E741
    roles = token_roles([*w, *l], len(w))
    partner = roles.partner.tolist()
    for i, j in enumerate(partner[: len(w)]):
        if j >= 0:
            assert w[i] == l[j]
            assert partner[len(w) + j] == i
    assert sum(j >= 0 for j in partner[: len(w)]) == sum(j >= 0 for j in partner[len(w) :])
    flat = [kind for row in roles.kinds() for kind in row]
    assert len(flat) == len(w) * len(l) and set(flat) <= set(KINDS)
    assert flat.count("same_position") == sum(j >= 0 for j in partner[: len(w)])


@pytest.mark.parametrize("n_chosen", [0, 2, 3, -1])
def test_an_empty_side_is_refused(n_chosen):
    with pytest.raises(ValueError, match=f"n_chosen={n_chosen}"):
        token_roles([1, 2], n_chosen)


# --- tables and sums ----------------------------------------------------------------------------------------


def test_parts_of_a_two_by_two_block_by_hand():
    # Chosen (contrast, shared), rejected (contrast, shared); g_w · g_l = −2 + 0.5 − 0.25 + 3.
    gram = torch.zeros(4, 4, dtype=torch.float64)
    gram[:2, 2:] = torch.tensor([[-2.0, 0.5], [-0.25, 3.0]])
    table = token_table(geometry_of(gram, [1, 8, 2, 8], 2))
    parts = parts_of_inner(table).iloc[0]
    assert parts["contrast"] == -2.0
    assert parts["mixed"] == 0.25
    assert parts["same_position"] == 3.0
    assert parts["other_position"] == 0.0
    assert parts["shared"] == 3.0
    assert parts["total"] == 1.25


def test_parts_of_all_three_sums_by_hand():
    # a² = ‖first + second‖²: the square of each token, and twice their inner product.
    vectors = torch.tensor([[1.0, 0.0], [2.0, 1.0], [0.0, -1.0], [1.0, 1.0]], dtype=torch.float64)
    table = token_table(geometry_of(vectors @ vectors.T, [1, 8, 2, 8], 2), blocks=("c", "a2", "b2"))
    parts = parts_of_inner(table, by=("block",)).set_index("block")
    assert parts.loc["a2", ["contrast", "mixed", "shared", "total"]].tolist() == [1.0, 4.0, 5.0, 10.0]
    assert parts.loc["b2", ["contrast", "mixed", "shared", "total"]].tolist() == [1.0, -2.0, 2.0, 1.0]
    assert parts.loc["c", ["contrast", "mixed", "shared", "total"]].tolist() == [0.0, 0.0, 3.0, 3.0]
    with pytest.raises(ValueError, match="several blocks"):
        parts_of_inner(table)
    with pytest.raises(ValueError, match="block 'd'; expected one of c, a2, b2"):
        token_table(geometry_of(vectors @ vectors.T, [1, 8, 2, 8], 2), blocks=("d",))


@pytest.mark.parametrize("shape", ["gpt2-tied", "llama-untied"])
def test_parts_sum_to_c_of_the_whole_responses(shape, tiny_model, tokenizer):
    model = tiny_model(shape)
    table = measure_tokens(model, tokenizer, PAIRS, blocks=("c", "a2", "b2"))
    parts = parts_of_inner(table, by=("pair", "block")).set_index(["block", "pair"])
    whole = pair_geometry(model, collate(PAIRS, tokenizer))
    for i, name in enumerate(whole.ids):
        row = parts.loc["c", name]
        total = float(whole.inner[i])
        assert parts.loc[("a2", name), "total"] == pytest.approx(float(whole.chosen_sq[i]), rel=1e-10)
        assert parts.loc[("b2", name), "total"] == pytest.approx(float(whole.rejected_sq[i]), rel=1e-10)
        assert row["contrast"] + row["mixed"] + row["same_position"] + row["other_position"] == pytest.approx(
            total, rel=1e-10
        )
        assert row["total"] == pytest.approx(total, rel=1e-10)
        assert row["shared"] == pytest.approx(row["same_position"] + row["other_position"], rel=1e-12)


def test_table_holds_the_numbers_of_the_geometry(tiny_model, tokenizer):
    one = collate(PAIRS[:1], tokenizer)
    geometry = token_geometry(tiny_model("gpt2-tied"), one)
    table = token_table(geometry, tokenizer=tokenizer)
    assert len(table) == geometry.n_chosen * geometry.n_rejected
    for row in table.itertuples():
        assert row.inner == float(geometry.cross[row.s, row.t])
        assert row.cosine == float(geometry.cross_cosine[row.s, row.t])
        assert row.logp_s == float(geometry.logps[row.s])
        assert row.logp_t == float(geometry.logps[geometry.n_chosen + row.t])
        assert row.kind == "contrast" or (row.s, row.t) != (0, 0)
    assert "".join(table.drop_duplicates("s")["first"]) == PAIRS[0].chosen
    assert "".join(table.drop_duplicates("t")["second"]) == PAIRS[0].rejected


def test_surprise_is_the_mean_of_minus_logp(tiny_model, tokenizer):
    table = measure_tokens(tiny_model("gpt2-tied"), tokenizer, PAIRS[:1], blocks=("c", "a2", "b2"))
    rows = suffix_table(table)
    assert len(rows) > 3
    assert (rows["s"] == rows["t"]).all() and (rows["first"] == rows["second"]).all()
    assert rows["surprise"].to_numpy() == pytest.approx(-(rows["logp_s"] + rows["logp_t"]).to_numpy() / 2)
    assert (rows["surprise"] > 0).all()
    parts = parts_of_cosine(table).iloc[0]
    assert rows["share"].sum() == pytest.approx(parts["same_position"], rel=1e-10)
    with pytest.raises(ValueError, match="has no block a2, b2"):
        suffix_table(table[table["block"] == "c"])


def test_parts_of_the_cosine_sum_to_it(tiny_model, tokenizer):
    model = tiny_model("llama-untied")
    parts = parts_of_cosine(measure_tokens(model, tokenizer, PAIRS, blocks=("c", "a2", "b2"))).set_index(
        "pair"
    )
    whole = pair_geometry(model, collate(PAIRS, tokenizer))
    for i, name in enumerate(whole.ids):
        rho = float(whole.cosine[i])
        assert parts.loc[name, "total"] == pytest.approx(rho, rel=1e-10)
        assert sum(parts.loc[name, kind] for kind in KINDS) == pytest.approx(rho, rel=1e-10)


def test_parts_that_lost_a_term_are_refused():
    gram = torch.eye(4, dtype=torch.float64) * 2 + 1
    table = token_table(geometry_of(gram, [1, 8, 2, 8], 2))
    table.loc[0, "kind"] = "unheard of"
    with pytest.raises(ArithmeticError, match="do not sum to the whole"):
        parts_of_inner(table)


def test_roles_of_another_pair_are_refused():
    gram = torch.eye(4, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"roles of 1 \+ 1 tokens; expected 2 \+ 2"):
        token_table(geometry_of(gram, [1, 8, 2, 8], 2), token_roles([1, 2], 1))


def test_pairs_of_one_id_are_refused(tiny_model, tokenizer):
    with pytest.raises(ValueError, match="same id"):
        measure_tokens(tiny_model("gpt2-tied"), tokenizer, [PAIRS[0], PAIRS[0]])


def test_end_of_sequence_token_counts_as_shared(tiny_model, tokenizer):
    one_token = [PreferencePair("the film was", " positive", " negative", "a")]
    model = tiny_model("gpt2-tied")
    without = measure_tokens(model, tokenizer, one_token)
    with_eos = measure_tokens(model, tokenizer, one_token, append_eos=True)
    assert "same_position" not in set(without["kind"])
    assert (with_eos["kind"] == "same_position").sum() == 1


def test_part_after_the_first_token_is_the_suffixs(tiny_model, tokenizer):
    pairs = [
        PreferencePair("the film was", " positive", " negative", "a"),
        PreferencePair("x", "ab", "ba", "b"),
    ]
    table = measure_tokens(tiny_model("gpt2-tied"), tokenizer, pairs, blocks=("c", "a2", "b2"))
    parts = after_first(table).set_index("pair")["part"]
    for name, rows in table.groupby("pair"):
        c = rows[rows["block"] == "c"]
        ab = (rows[rows["block"] == "a2"]["inner"].sum() * rows[rows["block"] == "b2"]["inner"].sum()) ** 0.5
        rest = c["inner"].sum() - c[(c["s"] == 0) | (c["t"] == 0)]["inner"].sum()
        assert parts[name] == pytest.approx(rest / ab, rel=1e-9, abs=1e-12)


def test_a_pair_of_single_tokens_has_nothing_after_the_first():
    gram = torch.tensor([[4.0, -1.0], [-1.0, 1.0]], dtype=torch.float64)
    table = token_table(geometry_of(gram, [1, 2], 1), blocks=("c", "a2", "b2"))
    assert after_first(table)["part"].tolist() == [0.0]
    assert parts_of_cosine(table)["contrast"].tolist() == [-0.5]


def test_summaries_take_the_unit_as_the_draw():
    parts = pd.DataFrame({"run": [0, 0, 1], "total": [0.1, 0.3, 0.4]}).assign(
        shared=0.0, **dict.fromkeys(KINDS, 0.0)
    )
    total = summarize_parts(parts, "run").loc["total"]
    assert total["value"] == pytest.approx(0.3) and total["n"] == 2
    # Two runs, at 0.2 and 0.4: a t interval would end at 1.57 and at −0.97.
    assert -0.99 < total["low"] < total["high"] <= 1
    shared = summarize_parts(parts, "run").loc["shared"]
    assert (shared["value"], shared["low"], shared["high"]) == (0, 0, 0)


def test_rank_agreement_sees_order_and_its_control_does_not():
    rows = pd.DataFrame({"pair": "a", "s": [3, 1, 2, 4], "surprise": [3.0, 1.0, 9.0, 0.5]})
    rows["inner"] = rows["surprise"] ** 2
    assert rank_agreement(rows)["agreement"].tolist() == pytest.approx([1.0])
    rows["inner"] = -rows["surprise"]
    assert rank_agreement(rows)["agreement"].tolist() == pytest.approx([-1.0])
    # in order of s the surprises are 1, 9, 3, 0.5: against the one before, (9, 3, 0.5) with (1, 9, 3)
    rows["inner"] = rows["surprise"]
    assert rank_agreement(rows, shift=1)["agreement"].tolist() == pytest.approx([-0.5])
    assert rank_agreement(rows[:2])["agreement"].isna().all()
    rows["inner"] = [3.0, 1.0, 2.0, 4.0]  # in the order of the places, whatever the surprise
    assert rank_agreement(rows, column="s")["agreement"].tolist() == pytest.approx([1.0])
    assert rank_agreement(rows)["agreement"].tolist() == pytest.approx([-0.4])


# --- negative controls --------------------------------------------------------------------------------------


def test_turned_suffix_keeps_tokens_and_contrast_and_no_place(tokenizer):
    one = collate(PAIRS[:1], tokenizer)
    after = turn_suffix(one)
    n = int(one.chosen_len)
    before_ids = one.input_ids[1][one.response_mask[1]].tolist()
    after_ids = after.input_ids[1][after.response_mask[1]].tolist()
    shared = (
        token_roles([*one.input_ids[0][one.response_mask[0]].tolist(), *before_ids], n).shared[n:].tolist()
    )
    moved = [i for i, is_shared in enumerate(shared) if is_shared]
    assert sorted(before_ids) == sorted(after_ids)
    assert [after_ids[i] for i in moved] == [before_ids[i] for i in [moved[-1], *moved[:-1]]]
    assert all(after_ids[i] == before_ids[i] for i in range(len(shared)) if not shared[i])
    assert torch.equal(after.input_ids[0], one.input_ids[0])
    assert not torch.equal(after.input_ids, one.input_ids)


def test_turned_pairs_lose_the_cosine_at_the_same_position(tiny_model, tokenizer):
    model = tiny_model("gpt2-tied")
    true, turned = (
        measure_tokens(model, tokenizer, PAIRS, turned=turned).query("kind == 'same_position'")
        for turned in (False, True)
    )
    assert len(true) == len(turned)
    assert true["cosine"].mean() > 0.4
    assert turned["cosine"].mean() < true["cosine"].mean() / 2


def test_turning_needs_two_shared_tokens_and_one_pair(tokenizer):
    short = collate([PreferencePair("the film", " positive", " negative", "short")], tokenizer)
    with pytest.raises(ValueError, match=r"short has \d+ shared tokens; expected at least 2"):
        turn_suffix(short)
    with pytest.raises(ValueError, match="got 2 pairs"):
        turn_suffix(collate(PAIRS, tokenizer))


def test_relabel_replaces_only_the_first_word():
    pairs = [PreferencePair("x", " positive and positive", " negative and positive", "a")]
    (changed,) = relabel(pairs, (" positive", " negative"), (" based", " on"))
    assert (changed.chosen, changed.rejected) == (" based and positive", " on and positive")
    assert (changed.prompt, changed.id) == ("x", "a")
    with pytest.raises(ValueError, match="of a begins with neither ' good' nor ' bad'"):
        relabel(pairs, (" good", " bad"), (" based", " on"))


def test_each_negative_control_takes_one_thing_away(tiny_model, tokenizer):
    table = negative_controls(tiny_model("gpt2-tied"), tokenizer, PAIRS, " sentiment what a day")
    c = table[table["block"] == "c"].groupby("control")
    assert set(c.groups) == {"unlikely labels", "suffix turned", "suffix reworded"}
    shared = c["kind"].apply(lambda kinds: (kinds == "same_position").mean())
    assert shared["unlikely labels"] > shared["suffix reworded"]
    first = c["first"].apply(set)
    assert first["suffix turned"] == first["suffix reworded"] != first["unlikely labels"]


# --- the output layer ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", ["gpt2-untied", "llama-untied", "neox-untied"])
def test_output_layer_in_closed_form_is_what_autograd_gives(shape, tiny_model, tokenizer):
    model = tiny_model(shape)
    name = next(n for n, p in model.named_parameters() if p is model.get_output_embeddings().weight)
    one = collate(PAIRS[:1], tokenizer)
    layer = output_layer_geometry(model, one)
    expected = token_geometry(model, one, lambda parameter: parameter == name)
    torch.testing.assert_close(layer.geometry.gram, expected.gram, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(layer.geometry.logps, expected.logps, rtol=1e-9, atol=1e-12)
    assert torch.equal(layer.geometry.token_ids, expected.token_ids)
    assert torch.equal(layer.geometry.positions, expected.positions)
    torch.testing.assert_close(layer.geometry.cosine, layer.hidden * layer.residual, rtol=1e-9, atol=1e-12)


def test_output_layer_ignores_padding(tiny_model, tokenizer):
    model = tiny_model("gpt2-tied")
    alone = output_layer_geometry(model, collate(PAIRS[1:], tokenizer))
    for side in ("left", "right"):
        padded = collate(PAIRS, tokenizer, padding_side=side).select(1)
        torch.testing.assert_close(output_layer_geometry(model, padded).geometry.gram, alone.geometry.gram)


def test_output_layer_differs_from_all_parameters(tiny_model, tokenizer):
    model, one = tiny_model("gpt2-tied"), collate(PAIRS[:1], tokenizer)
    layer, whole = output_layer_geometry(model, one).geometry, token_geometry(model, one)
    assert float((layer.cross_cosine - whole.cross_cosine).abs().max()) > 0.01


class Capped(torch.nn.Module):
    """A model whose logits are not its output matrix times its last state (they are soft-capped)."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, **arguments):
        output = self.inner(**arguments)
        output.logits = output.logits.tanh()
        return output

    def get_output_embeddings(self):
        return self.inner.get_output_embeddings()


def test_output_layer_refuses_what_it_cannot_do(tiny_model, tokenizer):
    model = tiny_model("gpt2-tied")
    with pytest.raises(ValueError, match="got 2 pairs"):
        output_layer_geometry(model, collate(PAIRS, tokenizer))
    with pytest.raises(ValueError, match="the logits of Capped are not its output matrix"):
        output_layer_geometry(Capped(model), collate(PAIRS[:1], tokenizer))


def test_many_pairs_stand_under_one_another(tiny_model, tokenizer):
    table = measure_tokens(tiny_model("gpt2-tied"), tokenizer, PAIRS)
    assert isinstance(table, pd.DataFrame)
    assert list(table["pair"].unique()) == ["a", "b"]
    alone = measure_tokens(tiny_model("gpt2-tied"), tokenizer, PAIRS[1:])
    assert table[table["pair"] == "b"]["inner"].to_numpy() == pytest.approx(
        alone["inner"].to_numpy(), rel=1e-9
    )
