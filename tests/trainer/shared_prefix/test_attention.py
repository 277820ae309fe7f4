"""Log-probabilities and gradients of a tree are those of its rows, for each family of models."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from hypothesis import given, settings
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel

from agentflow_verl.trainer.shared_prefix import attention
from agentflow_verl.trainer.shared_prefix.attention import TreeAttention, plan_segments
from agentflow_verl.trainer.shared_prefix.tree import Predictions, PrefixTree
from tests.trainer.shared_prefix.rows import branching_rows, tensors

CPU = torch.device("cpu")
FAMILIES: dict[str, dict[str, Any]] = {
    "Qwen2": {},
    "Qwen3": {"head_dim": 8},
    "Llama": {},
    "Mistral": {"sliding_window": 7},
    "Gemma": {"head_dim": 8},
    "Gemma2": {
        "head_dim": 8,
        "sliding_window": 7,
        "query_pre_attn_scalar": 8,
        "attn_logit_softcapping": 0.1,  # far below the scores, so that it shows
    },
    "Gemma3Text": {"head_dim": 8, "sliding_window": 7, "query_pre_attn_scalar": 8},
    "Olmo2": {},
    "Olmo3": {"sliding_window": 7},
    "Granite": {},
    "Phi3": {"sliding_window": 7},
    "Cohere2": {"sliding_window": 7},
    "SmolLM3": {},
    "Qwen2Moe": {
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 16,
        "shared_expert_intermediate_size": 16,
    },
}
SMALL = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "attention_dropout": 0.0,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


@pytest.fixture(autouse=True)
def known_to_transformers():
    attention.register()


def make_model(family: str, **options: Any) -> PreTrainedModel:
    torch.manual_seed(0)
    config = getattr(transformers, f"{family}Config")(**{**SMALL, **FAMILIES[family], **options})
    config._attn_implementation = "eager"
    return AutoModelForCausalLM.from_config(config).float().train()


def group_rows() -> tuple[list[Tensor], list[int]]:
    """Three trajectories of three turns, an equal row, and a row that begins another."""
    generator = torch.Generator().manual_seed(0)
    first = torch.randint(3, 97, (11,), generator=generator)
    rows, prompts = [], []
    for trajectory in range(3):
        so_far = first
        for turn in range(3):
            response = torch.randint(3, 97, (2 + (trajectory + turn) % 3,), generator=generator)
            rows.append(torch.cat([so_far, response]))
            prompts.append(len(so_far))
            so_far = torch.cat([so_far, torch.randint(3, 97, (5,), generator=generator)])
    return [*rows, rows[0], rows[0][:-1]], [*prompts, prompts[0], prompts[0]]


def one_by_one(model: PreTrainedModel, rows: list[Tensor], prompts: list[int]) -> Tensor:
    found = []
    for row, prompt in zip(rows, prompts):
        logits = model(input_ids=row[None], use_cache=False).logits[0, prompt - 1 : -1]
        found.append(logits.log_softmax(-1).gather(1, row[prompt:, None]).squeeze(1))
    return torch.cat(found)


def as_a_tree(
    model: PreTrainedModel, rows: list[Tensor], prompts: list[int], one_node_each: bool = False
) -> Tensor:
    tree = PrefixTree.of(rows)
    wanted = Predictions.of(tree, torch.tensor(prompts))
    known = TreeAttention(tree, CPU)
    known.segments = plan_segments(tree, one_node_each)
    before = model.config._attn_implementation
    model.config._attn_implementation = attention.NAME
    try:
        logits = model(
            input_ids=tree.token_N[None],
            position_ids=tree.position_N[None],
            attention_mask=None,
            logits_to_keep=wanted.slot_P,
            tree=known,
            use_cache=False,
        ).logits[0]
    finally:
        model.config._attn_implementation = before
    of_label = logits[wanted.position_A, wanted.label_A]
    return of_label - logits.logsumexp(-1)[wanted.position_A]


def gradient(model: PreTrainedModel, log_probs: Tensor) -> Tensor:
    weights = torch.randn(len(log_probs), generator=torch.Generator().manual_seed(1))
    model.zero_grad()
    (weights.to(log_probs.dtype) * log_probs).sum().backward()
    return torch.cat([each.grad.flatten() for each in model.parameters() if each.grad is not None])


def relative(actual: Tensor, expected: Tensor) -> float:
    return float((actual - expected).norm() / expected.norm())


@pytest.mark.parametrize("one_node_each", [False, True], ids=["merged", "one node each"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_tree_is_computed_as_its_rows_are(family, one_node_each):
    model = make_model(family)
    rows, prompts = group_rows()
    flat = one_by_one(model, rows, prompts)
    expected = gradient(model, flat)
    shared = as_a_tree(model, rows, prompts, one_node_each)
    assert relative(shared, flat) < 1e-5
    assert relative(gradient(model, shared), expected) < 1e-5


@settings(max_examples=40, deadline=None)
@given(branching_rows())
def test_any_rows_are_computed_as_a_tree(rows):
    model = make_model("Qwen2", num_hidden_layers=1)
    ids = [row + 2 for row in tensors(rows) if len(row) > 1] or [torch.tensor([3, 4])]
    prompts = [1 + len(row) // 3 if len(row) > 2 else 1 for row in ids]
    flat = one_by_one(model, ids, prompts)
    expected = gradient(model, flat)
    shared = as_a_tree(model, ids, prompts)
    assert torch.allclose(shared, flat, atol=1e-5)
    assert relative(gradient(model, shared), expected) < 1e-4


def test_a_token_sees_its_own_path_and_no_other():
    """Rows that attend to each other, unnoticed (AReaL #1442): another row changes nothing."""
    model = make_model("Llama")
    rows, prompts = group_rows()
    alone = as_a_tree(model, rows[:3], prompts[:3])
    together = as_a_tree(model, rows, prompts)
    assert torch.allclose(together[: len(alone)], alone, atol=1e-6)


def test_checkpointed_layers_compute_the_same_gradient():
    model = make_model("Qwen3")
    rows, prompts = group_rows()
    expected = gradient(model, one_by_one(model, rows, prompts))
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    tree = as_a_tree(model, rows, prompts)
    # The backward pass computes layers again, by what the configuration then says.
    model.config._attn_implementation = attention.NAME
    assert relative(gradient(model, tree), expected) < 1e-5


def test_in_bf16_a_tree_is_as_near_as_rows_are():
    model = make_model("Qwen2")
    rows, prompts = group_rows()
    exact = one_by_one(model, rows, prompts)
    model = model.bfloat16()
    flat = (one_by_one(model, rows, prompts) - exact).abs().max()
    shared = (as_a_tree(model, rows, prompts) - exact).abs().max()
    assert shared < 3 * flat + 0.02


def test_small_subtrees_are_one_segment_and_large_nodes_their_own():
    short = PrefixTree.of(tensors([[1, 2, 3, n] for n in range(4, 9)]))
    assert len(plan_segments(short)) == 1
    assert len(plan_segments(short, one_node_each=True)) == len(short.nodes)
    long = PrefixTree.of([torch.cat([torch.arange(900), torch.full((900,), n)]) for n in (1, 2)])
    assert len(plan_segments(long)) == 3


@pytest.mark.parametrize(
    "arguments, complaint",
    [
        ({}, "without its tree"),
        ({"tree": True, "dropout": 0.1}, "no dropout"),
        ({"tree": True, "s_aux": 1}, "does not know s_aux"),
    ],
)
def test_what_would_be_ignored_is_refused(arguments, complaint):
    query = torch.zeros(1, 1, 3, 4)
    if arguments.pop("tree", False):
        arguments["tree"] = TreeAttention(PrefixTree.of(tensors([[1, 2, 3]])), CPU)
    with pytest.raises(ValueError, match=complaint):
        attention.tree_attention(torch.nn.Identity(), query, query, query, None, **arguments)


# ---- flash-attention's variable-length call, with its meaning in plain torch ----


def plain_varlen(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    query_offsets: Tensor,
    key_offsets: Tensor,
    most_queries: int,
    most_keys: int,
    *,
    softmax_scale: float,
    causal: bool,
    window_size: tuple[int, int],
    softcap: float,
    deterministic: bool,
) -> Tensor:
    """Causal and windowed from the bottom right, as flash_attn_varlen_func documents it."""
    assert causal and not deterministic
    outputs = []
    groups = query.shape[1] // key.shape[1]
    starts = zip(query_offsets, query_offsets[1:], key_offsets, key_offsets[1:])
    for first, last, first_key, last_key in starts:
        assert last - first <= most_queries and last_key - first_key <= most_keys
        q = query[first:last].transpose(0, 1)
        k = key[first_key:last_key].transpose(0, 1).repeat_interleave(groups, 0)
        v = value[first_key:last_key].transpose(0, 1).repeat_interleave(groups, 0)
        scores = q @ k.transpose(1, 2) * softmax_scale
        if softcap:
            scores = softcap * torch.tanh(scores / softcap)
        place = torch.arange(q.shape[1]).unsqueeze(1) + k.shape[1] - q.shape[1]
        seen = torch.arange(k.shape[1]) <= place
        if window_size[0] >= 0:
            seen &= torch.arange(k.shape[1]) >= place - window_size[0]
        outputs.append((scores.masked_fill(~seen, -1e30).softmax(-1) @ v).transpose(0, 1))
    return torch.cat(outputs)


@pytest.mark.parametrize("family", ["Qwen2", "Mistral", "Gemma2"])
def test_the_variable_length_call_computes_the_same(family, monkeypatch):
    model = make_model(family)
    rows, prompts = group_rows()
    flat = one_by_one(model, rows, prompts)
    expected = gradient(model, flat)
    monkeypatch.setattr(attention, "flash_varlen", lambda device: plain_varlen)
    monkeypatch.setattr(attention, "FLASH_DTYPES", (torch.float32,))
    shared = as_a_tree(model, rows, prompts, one_node_each=True)
    assert relative(shared, flat) < 1e-5
    assert relative(gradient(model, shared), expected) < 1e-5


def test_what_flash_attention_has_no_kernel_for_is_computed_without_it(monkeypatch):
    """It takes 16 bits and equal heads of at most 256."""
    monkeypatch.setattr(attention, "flash_varlen", lambda device: pytest.fail)
    model = make_model("Qwen2")
    rows, prompts = group_rows()
    shared = as_a_tree(model, rows, prompts, one_node_each=True)
    assert relative(shared, one_by_one(model, rows, prompts)) < 1e-5
