"""Tiny checkpoints made on the spot: three families, each with its own tokenizer and chat template."""

from __future__ import annotations

import random
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    GemmaConfig,
    GemmaForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from agentflow_verl.flow import prompts

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA = (
    "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n{{ m['content'] }}<|eot_id|>"
    "{% endfor %}{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
GEMMA = (  # like the real one, it refuses a system role
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "<start_of_turn>{{ 'model' if m['role'] == 'assistant' else m['role'] }}\n{{ m['content'] }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
SPECIAL = {
    "qwen2": (CHATML, "<|endoftext|>", "<|im_end|>", ("<|im_start|>",)),
    "llama": (LLAMA, "<|begin_of_text|>", "<|eot_id|>", ("<|start_header_id|>", "<|end_header_id|>")),
    "gemma": (GEMMA, "<bos>", "<end_of_turn>", ("<start_of_turn>",)),
}
SHAPE = dict(hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=2048)
REASONS = ("it is asked", "a sum is needed now")  # the planner says one or the other, so that a group's rewards differ
REPLIES = {
    "analyst": "A sum.",
    "planner": "Justification: {reason}\nContext: none\nSub-goal: add\nTool: python_coder",
    "executor": '{"code": "print(2 + 2)"}',
    "verifier": "Analysis: the sum is known\nConclusion: CONTINUE",
    "generator": "<answer>4</answer>",
}


def make_tokenizer(family: str) -> PreTrainedTokenizerFast:
    template, bos, eos, others = SPECIAL[family]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    texts = [prompts.load(module).system.template + prompts.load(module).user.template for module in REPLIES]
    trainer = trainers.BpeTrainer(
        vocab_size=600, special_tokens=[bos, eos, *others], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator([*texts, *REPLIES.values(), *REASONS] * 3, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=bos, eos_token=eos, pad_token=bos)
    fast.chat_template = template
    return fast


def make_model(family: str, tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    ids = dict(
        vocab_size=len(tokenizer), bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    torch.manual_seed(0)
    if family == "qwen2":
        return Qwen2ForCausalLM(Qwen2Config(**SHAPE, **ids, tie_word_embeddings=True))
    if family == "llama":
        return LlamaForCausalLM(LlamaConfig(**SHAPE, **ids, tie_word_embeddings=False))
    return GemmaForCausalLM(GemmaConfig(**SHAPE, **ids, head_dim=32))


def save_random(family: str, folder: Path) -> Path:
    """A random checkpoint of ``family``."""
    tokenizer = make_tokenizer(family)
    make_model(family, tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def save_taught(folder: Path, steps: int = 240) -> Path:
    """A Qwen2 that has learnt a well-formed reply a module, whatever fills the prompt: enough to walk the whole
    loop, tools included."""
    tokenizer = make_tokenizer("qwen2")
    model = make_model("qwen2", tokenizer)
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
    rng = random.Random(0)
    for step in range(steps):
        ids, labels = _batch(tokenizer, rng)
        for group in optimizer.param_groups:
            group["lr"] = 4e-3 * (1 - step / steps)
        loss = model(input_ids=ids, labels=labels, use_cache=False).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _batch(tokenizer: PreTrainedTokenizerFast, rng: random.Random) -> tuple[torch.Tensor, torch.Tensor]:
    """One prompt a module, its fields filled with words in random order, padded on the right."""
    words = " ".join(prompts.load(module).system.template for module in REPLIES).split()
    fields = ("tools", "query", "analysis", "memory", "turns_left", "tool", "description", "schema", "context", "sub_goal")
    rows = []
    for module, reply in REPLIES.items():
        filled = {name: " ".join(rng.choices(words, k=rng.randint(1, 60))) for name in fields}
        messages = prompts.load(module).render(**filled)
        prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=True, return_dict=False)
        rows.append((prompt, tokenizer.encode(reply.replace("{reason}", rng.choice(REASONS))) + [tokenizer.eos_token_id]))
    longest = max(len(prompt) + len(reply) for prompt, reply in rows)
    ids = torch.full((len(rows), longest), tokenizer.pad_token_id)
    labels = torch.full((len(rows), longest), -100)
    for row, (prompt, reply) in enumerate(rows):
        end = len(prompt) + len(reply)
        ids[row, :end] = torch.tensor(prompt + reply)
        labels[row, len(prompt) : end] = torch.tensor(reply)
    return ids, labels
