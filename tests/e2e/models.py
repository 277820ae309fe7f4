"""Tiny random checkpoints made on the spot: three families, each with its own tokenizer and chat
template.
"""

from __future__ import annotations

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

from agentflow_verl.flow.modules import MODULES
from agentflow_verl.flow.prompts import Prompts

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA = (
    "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m['role']"
    " }}<|end_header_id|>\n\n{{ m['content'] }}<|eot_id|>{% endfor %}{% if add_generation_prompt"
    " %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
GEMMA = (  # like the real one, it refuses a system role
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('System"
    " role not supported') }}{% endif %}<start_of_turn>{{ 'model' if m['role'] == 'assistant' else"
    " m['role'] }}\n{{ m['content'] }}<end_of_turn>\n{% endfor %}{% if add_generation_prompt"
    " %}<start_of_turn>model\n{% endif %}"
)
SPECIAL = {
    "qwen2": (CHATML, "<|endoftext|>", "<|im_end|>", ("<|im_start|>",)),
    "llama": (
        LLAMA,
        "<|begin_of_text|>",
        "<|eot_id|>",
        ("<|start_header_id|>", "<|end_header_id|>"),
    ),
    "gemma": (GEMMA, "<bos>", "<end_of_turn>", ("<start_of_turn>",)),
}
SHAPE = dict(
    hidden_size=64,
    intermediate_size=128,
    num_hidden_layers=2,
    num_attention_heads=2,
    num_key_value_heads=1,
    max_position_embeddings=2048,
)


def make_tokenizer(family: str) -> PreTrainedTokenizerFast:
    template, bos, eos, others = SPECIAL[family]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    prompts = Prompts.shipped()
    texts = [prompts[module].system.template + prompts[module].user.template for module in MODULES]
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=[bos, eos, *others],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts * 3, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=bos, eos_token=eos, pad_token=bos
    )
    fast.chat_template = template
    return fast


def make_model(family: str, tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    ids = dict(
        vocab_size=len(tokenizer),
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
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
