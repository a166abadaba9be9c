"""TRL's trainers: their loss of one batch is ours, and they really run on ``nano``."""

import pytest
import torch
from datasets import Dataset

from entanglement.models import load_model
from entanglement.rewards import draw_answers, get_method, method_loss, read_answers
from entanglement.rewards.advantages import group_relative, leave_one_out
from entanglement.rewards.methods import Drawn

#: Of one length: TRL gives no positions, and GPT-2 then counts them from the padding.
PROMPTS = ["The film was", "The story was"]
GROUP, TOKENS, BETA = 4, 5, 0.3


def words_in(completions, **_):
    """A reward that differs among answers: the number of letters e."""
    return [float(text.count("e")) for text in completions]


def trainer_of(kind, model, tokenizer, folder, **options):
    import trl

    make, config = getattr(trl, f"{kind}Trainer"), getattr(trl, f"{kind}Config")
    arguments = config(
        output_dir=str(folder), per_device_train_batch_size=2 * GROUP, num_generations=GROUP,
        max_completion_length=TOKENS, beta=BETA, bf16=False, gradient_checkpointing=False, report_to="none",
        use_cpu=True, max_steps=2, learning_rate=1e-3, save_strategy="no", logging_strategy="no",
        disable_tqdm=True, seed=0, **options,
    )  # fmt: skip
    prompts = Dataset.from_dict({"prompt": PROMPTS})
    return make(
        model=model, reward_funcs=words_in, args=arguments, train_dataset=prompts, processing_class=tokenizer
    )


@pytest.fixture(scope="module")
def nano(tmp_path_factory):
    """A folder with nano and its architecture's name, by which TRL loads its reference."""
    folder = tmp_path_factory.mktemp("nano")
    for part in load_model("nano"):
        part.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def batch(nano):
    """Answers of nano, its log-probabilities, and those of two other models: the reference, and the one that
    drew the answers some steps ago.
    """
    model, tokenizer = load_model(nano)
    answers = draw_answers(model, tokenizer, PROMPTS, group=GROUP, tokens=TOKENS, seed=4)
    mask = answers.mask.clone()
    mask[1, 3:] = mask[6, 1:] = False  # as if these had ended
    answers = type(answers)(answers.input_ids, answers.attention_mask, mask, GROUP, TOKENS)
    logps = read_answers(model, answers).logps.detach()
    draw = torch.Generator().manual_seed(0)
    old, reference = (logps + 0.3 * torch.randn(logps.shape, generator=draw) for _ in range(2))
    scores = torch.tensor(words_in(answers.texts(tokenizer)))
    scores = scores + torch.arange(8) % 3
    return answers, old, reference, scores


def both_losses(name, nano, batch, folder, advantages, **options):
    """Return (ours, theirs), each the loss and the gradient of the first block's first weight."""
    answers, old, reference, _ = batch
    mask = answers.mask
    found = []
    model, _ = load_model(nano)
    loss = method_loss(
        get_method(name), read_answers(model, answers).logps, old, reference, advantages, mask,
        beta=BETA, clip=0.2,
    )  # fmt: skip
    loss.backward()
    found.append((float(loss.detach()), model.transformer.h[0].attn.c_attn.weight.grad.clone()))
    model, tokenizer = load_model(nano)
    trainer = trainer_of(name[:4].upper(), model, tokenizer, folder, **options)
    trainer.model.eval()
    inputs = {
        "prompt_ids": answers.input_ids[:, : -TOKENS], "prompt_mask": answers.attention_mask[:, : -TOKENS],
        "completion_ids": answers.ids, "completion_mask": mask.long(), "advantages": advantages[:, 0],
        "old_logps": (old * mask).sum(1), "old_per_token_logps": old, "ref_per_token_logps": reference,
    }  # fmt: skip
    theirs = trainer.compute_loss(trainer.model, inputs)
    theirs.backward()
    found.append((float(theirs.detach()), trainer.model.transformer.h[0].attn.c_attn.weight.grad))
    return found


PAPER = {"loss_type": "grpo", "use_bias_correction_kl": False}
TODAY = {"loss_type": "grpo"}


@pytest.mark.parametrize(
    ("name", "options", "other"),
    [("rloo", {}, "grpo"), ("grpo", PAPER, "grpo-corrected"), ("grpo-corrected", TODAY, "grpo")],
)
def test_the_loss_and_its_gradient_are_trls(nano, batch, tmp_path, name, options, other):
    answers, old, reference, scores = batch
    drawn = Drawn(scores, old - reference, answers.mask, GROUP, BETA, torch.zeros_like(old))
    advantages, _ = get_method(name).credit(drawn)
    (mine, gradient), (theirs, slope) = both_losses(name, nano, batch, tmp_path, advantages, **options)
    assert mine == pytest.approx(theirs, abs=1e-5) and abs(mine) > 1e-3
    torch.testing.assert_close(gradient, slope, rtol=1e-3, atol=1e-5 * float(slope.abs().max()))
    # Another method's loss of the same batch is another number.
    another = get_method(other)
    model, _ = load_model(nano)
    with torch.no_grad():
        wrong = method_loss(
            another, read_answers(model, answers).logps, old, reference, advantages, answers.mask, beta=BETA
        )
    assert abs(float(wrong) - theirs) > 1e-3


@pytest.mark.parametrize("kind", ["RLOO", "GRPO"])
def test_trl_steps_on_nano_with_our_advantages(nano, tmp_path, kind):
    """Two steps of the trainer; the advantages that it computes are ours of the same rewards."""
    model, tokenizer = load_model(nano)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    trainer = trainer_of(kind, model, tokenizer, tmp_path)
    seen = []
    inside = trainer._generate_and_score_completions

    def watched(inputs):
        found = inside(inputs)
        rows = zip(found["completion_ids"], found["completion_mask"].bool(), strict=True)
        texts = [tokenizer.decode(ids[real], skip_special_tokens=True) for ids, real in rows]
        rewards = torch.tensor(words_in(texts))
        price = torch.zeros(len(texts))
        if kind == "RLOO":  # what it draws with is still the reference in the first step
            price = BETA * (found["old_logps"] - sums_under(before, found)).detach()
        ours = leave_one_out(rewards - price, GROUP) if kind == "RLOO" else group_relative(rewards, GROUP)
        seen.append((ours, found["advantages"]))
        return found

    def sums_under(parameters, found):
        reference, _ = load_model(nano)
        reference.load_state_dict(parameters, strict=False)
        ids = torch.cat([found["prompt_ids"], found["completion_ids"]], dim=1)
        logps = reference(input_ids=ids).logits[:, :-1].log_softmax(-1)
        picked = logps.gather(2, ids[:, 1:, None])[:, -found["completion_ids"].shape[1] :, 0]
        return (picked * found["completion_mask"]).sum(1)

    trainer._generate_and_score_completions = watched
    trainer.train()
    assert trainer.state.global_step == 2 and len(seen) == 2
    assert any(not torch.equal(p.detach(), before[name]) for name, p in trainer.model.named_parameters())
    for ours, theirs in seen:
        torch.testing.assert_close(ours, theirs.to(ours), rtol=1e-3, atol=2e-3)
    assert any(bool(ours.abs().max() > 0.1) for ours, _ in seen)
