"""The quickstart's base model: ``python base_model.py --data DIR --out DIR``. Its result is shipped
in ``base/``.

A Llama of a million parameters, trained from nothing for some minutes on a scripted agent's
trajectories. Its tokenizer holds each fixed line of the prompts, each title and each number as one
token: the prompts are those of any other model, five times shorter, and copying a name is copying
one token. Everything after this step treats it as a pretrained checkpoint.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import logging
import math
import random
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import questions
import torch
from scripted_agent import ErrorRates, ScriptedAgent
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from agentflow_verl.config.limits import Limits
from agentflow_verl.config.tool import ToolConfig
from agentflow_verl.engines.interface import Message
from agentflow_verl.flow import modules as flow
from agentflow_verl.flow.loop import Flow
from agentflow_verl.flow.memory import NOTHING
from agentflow_verl.flow.prompts import Prompts
from agentflow_verl.tools.embedded.supervisor import Supervisor
from agentflow_verl.tools.toolbox import ToolBox
from agentflow_verl.tools.types import ToolSpec

Example = tuple[list[Message], str]

PROMPTS = Prompts.shipped()
MAX_TURNS = 3
SUM = "State the final answer to the following arithmetic problem:"
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LABELS = [  # parts of a line, from the templates, the questions and the tools
    *(f"<|im_start|>{role}\n" for role in ("system", "user", "assistant")),
    *(
        "Question: ",
        "Analysis: ",
        "Sub-goal: ",
        "Arguments: ",
        "Result: ",
        "\n\nTools:\n",
        "Turn 1\n",
        "Turn 2\n",
        "Turn 3\n",
        "\n\n",
    ),
    *(
        "Under which topic is ",
        " filed?",
        "Take the topic under which ",
        " is filed. What is ",
        " times its number of letters?",
    ),
    *(" + ", " - ", " =", "What is the greatest common divisor of ", f"{SUM} "),
    *(
        "Find ",
        "Compute ",
        "gcd of ",
        " and ",
        " times the letters of ",
        '{"query": "',
        '{"code": "',
        "print(",
        ')"}',
        '"}',
    ),
    *(
        "import math; print(math.gcd(",
        '))"}',
        " * sum(map(str.isalpha, '",
        "')))\"}",
        "[1] ",
        "Topic: ",
        " [... ",
        " characters left out]",
    ),
    *('{"analysis": "', '", "conclusion": "', '{"reason": "', '", "answer": "'),
    *('STOP"}', 'CONTINUE"}', "Verdict: STOP. ", "Verdict: CONTINUE. "),
]
logger = logging.getLogger("base_model")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split(":")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder that data.py wrote")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=2200)
    parser.add_argument("--search-args", nargs="*", default=["--k", "1", "--passage-chars", "50"])
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.manual_seed(given.seed)
    torch.set_flush_denormal(
        True
    )  # Adam's moments of rare tokens decay into denormals, which cost ten times the time

    asked = [
        read(line)
        for line in (given.data / "warm_start.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    started = time.monotonic()
    given.out.mkdir(parents=True, exist_ok=True)
    titles = (given.data / "titles.txt").read_text(encoding="utf-8").split()
    examples = asyncio.run(
        collect(
            asked,
            given.data / "corpus.jsonl",
            given.search_args,
            given.seed,
            given.out / "tool_servers",
            titles,
        )
    )
    logger.info(
        "%d examples of %d trajectories in %.0f s",
        len(examples),
        len(asked),
        time.monotonic() - started,
    )
    with (given.data / "corpus.jsonl").open(encoding="utf-8") as file:
        articles = [json.loads(line) for line in file]
    words = [
        *titles,
        *sorted({article["text"].split(".")[0].removeprefix("Topic: ") for article in articles}),
    ]
    tokenizer = make_tokenizer(
        examples, ["{title} {text}".format_map(article)[:120] for article in articles], words
    )
    model = train(make_model(tokenizer), encode(tokenizer, examples), given.steps, given.seed)
    model.half().save_pretrained(given.out)
    tokenizer.save_pretrained(given.out)


def read(line: str) -> questions.Question:
    fields = json.loads(line)
    return questions.Question(
        **{**fields, "steps": tuple(questions.Step(**step) for step in fields["steps"])}
    )


async def collect(
    asked: list[questions.Question],
    corpus: Path,
    search_args: list[str],
    seed: int,
    logs: Path,
    titles: list[str],
) -> list[Example]:
    """The scripted agent's calls on every question, in the real loop with the real tool servers;
    then the copy examples.
    """
    configs = (
        ToolConfig(name="python_coder", concurrency=4),
        ToolConfig(name="wikipedia_search", args=("--corpus", str(corpus), *search_args)),
    )
    rng = random.Random(seed)
    others = [q.steps[0].arguments["query"] for q in asked if q.steps[0].tool == "wikipedia_search"]
    with Supervisor(configs, log_dir=logs) as supervisor:
        tools = await ToolBox.open(supervisor.configs)
        agents = [
            ScriptedAgent(question, random.Random(rng.random()), others, ErrorRates())
            for question in asked
        ]
        slots = asyncio.Semaphore(16)

        async def one(number: int, agent: ScriptedAgent) -> None:
            async with slots:
                await Flow(agent.engines(), tools, Limits(max_turns=MAX_TURNS), PROMPTS).run(
                    agent.question.query, str(number)
                )

        await asyncio.gather(*(one(number, agent) for number, agent in enumerate(agents)))
        await tools.close()
    return [example for agent in agents for example in agent.examples] + copy_examples(
        tools, titles, rng
    )


def copy_examples(
    tools: ToolBox, titles: list[str], rng: random.Random, rounds: int = 3
) -> list[Example]:
    """The planner's and the executor's copying, for every title and many numbers. They say nothing
    about any answer: the planner's tool is the scripted agent's choice. In the last round it is
    the only one, so that the planner knows prompts with one tool too."""
    examples = []
    for index, title in enumerate(titles * rounds):
        alone = index >= len(titles) * (rounds - 1)
        first, second, sign = rng.randint(10, 999), rng.randint(10, 999), rng.choice("+-")
        sum_ = f"{first} {sign} {second}"
        article = {"title": title, "topic": ""}
        for question in (
            questions.topic(article),
            questions.letters(article, rng.randint(2, 9)),
            questions.chain_sum(
                {"question": f"{SUM} {sum_} =", "answer": "", "metadata": {"expression": sum_}}
            ),
            questions.gcd(
                {
                    "answer": "",
                    "metadata": {"numbers": (rng.randint(10, 400), rng.randint(10, 400))},
                }
            ),
        ):
            agent = ScriptedAgent(question, rng, titles, ErrorRates())
            plan, step = agent.plan(), agent.move[1]
            spec = found(tools, step.tool)
            planner = flow.planner_fields([spec] if alone else tools.specs, MAX_TURNS)
            messages = PROMPTS["planner"].render(
                query=question.query, analysis=question.hint, memory=NOTHING, **planner
            )
            examples.append((messages, plan))
            messages = PROMPTS["executor"].render(
                query=question.query,
                context="none",
                sub_goal=step.sub_goal,
                **flow.executor_fields(spec),
            )
            examples.append((messages, json.dumps(step.arguments)))
    return examples


def found(tools: ToolBox, name: str) -> ToolSpec:
    spec = tools.resolve(name)
    assert spec is not None, f"the server of {name} was started above"
    return spec


def make_tokenizer(
    examples: list[Example], articles: Iterable[str], words: list[str], size: int = 1024
) -> PreTrainedTokenizerFast:
    """Byte-level BPE of the articles' words, and one token each for the lines that many prompts
    share, for the labels that begin the other lines, for the titles and topics, and for the numbers
    below 1000."""
    texts = ([*(message["content"] for message in messages), reply] for messages, reply in examples)
    lines = Counter(line for parts in texts for part in parts for line in set(part.split("\n")))
    fixed = [
        line for line, count in lines.items() if len(line) > 12 and count >= 0.02 * len(examples)
    ]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    replies = (reply for _, reply in examples)
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(itertools.chain(replies, articles), trainer)
    parts = sorted({*fixed, *LABELS}, key=len, reverse=True)
    tokenizer.add_tokens([AddedToken(part, normalized=False) for part in parts])
    tokenizer.add_tokens([AddedToken(word, normalized=False, single_word=True) for word in words])
    tokenizer.add_tokens([AddedToken(str(number), normalized=False) for number in range(1000)])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>"
    )
    fast.chat_template = TEMPLATE
    return fast


def make_model(
    tokenizer: PreTrainedTokenizerFast, width: int = 128, layers: int = 4
) -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=3 * width,
        num_hidden_layers=layers,
        num_attention_heads=width // 32,
        num_key_value_heads=width // 32,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config)


def encode(
    tokenizer: PreTrainedTokenizerBase, examples: list[Example]
) -> list[tuple[list[int], int]]:
    """(ids, length of the prompt) of each distinct example."""
    encoded = []
    for messages, reply in examples:
        prompt = tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, tokenize=True, return_dict=False
        )
        answer = tokenizer.encode(reply, add_special_tokens=False)
        encoded.append((prompt + answer + [tokenizer.eos_token_id], len(prompt)))
    return encoded


def train(
    model: LlamaForCausalLM,
    examples: list[tuple[list[int], int]],
    steps: int,
    seed: int,
    batch_tokens: int = 1536,
    batches_per_step: int = 3,
) -> LlamaForCausalLM:
    """Next-token training on the replies, and lightly on the prompts, whose repetitions teach
    copying. A batch holds examples of one length, mostly of one module, so a step takes several."""
    lengths = [len(ids) for ids, _ in examples]
    logger.info(
        "%.1f M parameters, %d tokens, longest example %d",
        model.num_parameters() / 1e6,
        sum(lengths),
        max(lengths),
    )
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=3e-3, betas=(0.9, 0.98), weight_decay=0.01, fused=True
    )
    rng, started, seen = random.Random(seed), time.monotonic(), 0
    batches: list[list[int]] = []
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = (
                3e-3
                * min(1.0, (step + 1) / 50)
                * (0.02 + 0.49 * (1 + math.cos(math.pi * step / steps)))
            )
        optimizer.zero_grad()
        for _ in range(batches_per_step):
            if not batches:
                batches = make_batches(lengths, batch_tokens, rng)
            batch = [examples[i] for i in batches.pop()]
            ids, labels, weight = pad(batch)
            with torch.autocast(
                "cpu", dtype=torch.bfloat16
            ):  # padded on the right under a causal mask: no mask is needed
                logits = model(input_ids=ids, use_cache=False).logits[:, :-1].float()
            loss = torch.nn.functional.cross_entropy(
                logits.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100, reduction="none"
            )
            loss = (loss * weight[:, 1:].flatten()).sum() / weight[:, 1:].sum() / batches_per_step
            loss.backward()
            seen += len(batch)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 200 == 0:
            logger.info(
                "step %d, %.0f s, %.1f passes, loss %.4f",
                step,
                time.monotonic() - started,
                seen / len(examples),
                batches_per_step * loss.item(),
            )
    return model


def make_batches(lengths: list[int], batch_tokens: int, rng: random.Random) -> list[list[int]]:
    """Batches of about ``batch_tokens`` padded tokens, each of examples of like length."""
    order = sorted(range(len(lengths)), key=lambda i: (lengths[i], rng.random()))
    batches: list[list[int]] = [[]]
    for index in order:
        if (len(batches[-1]) + 1) * lengths[index] > batch_tokens and batches[-1]:
            batches.append([])
        batches[-1].append(index)
    rng.shuffle(batches)
    return batches


def pad(
    batch: list[tuple[list[int], int]], prompt_weight: float = 0.1
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    longest = max(len(ids) for ids, _ in batch)
    ids = torch.zeros(len(batch), longest, dtype=torch.long)
    labels = torch.full((len(batch), longest), -100)
    weight = torch.zeros(len(batch), longest)
    for row, (tokens, prompt) in enumerate(batch):
        ids[row, : len(tokens)] = labels[row, : len(tokens)] = torch.tensor(tokens)
        weight[row, :prompt] = prompt_weight
        weight[row, prompt : len(tokens)] = 1.0
    return ids, labels, weight


if __name__ == "__main__":
    main()
