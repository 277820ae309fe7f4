"""The shipped base was taught on the shipped prompts, word for word as the code renders them."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from transformers import AutoTokenizer

from agentflow_verl.config.tool import ToolConfig
from agentflow_verl.flow import modules
from agentflow_verl.flow.prompts import Prompts
from agentflow_verl.tools.embedded.supervisor import Supervisor
from agentflow_verl.tools.toolbox import ToolBox
from agentflow_verl.tools.types import ToolSpec

QUICKSTART = Path(__file__).parents[2] / "recipes" / "quickstart"
BASE = QUICKSTART / "base"


def specs(tmp_path: Path) -> list[ToolSpec]:
    """What the real servers say of themselves, with the recipe's options."""
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text(json.dumps({"title": "Lyon", "text": "Topic: Geography. A city."}) + "\n")
    search = ToolConfig(
        name="wikipedia_search", args=("--corpus", str(corpus), "--k", "1", "--passage-chars", "50")
    )

    async def read(configs: tuple[ToolConfig, ...]) -> list[ToolSpec]:
        tools = await ToolBox.open(configs)
        found = list(tools.specs)
        await tools.close()
        return found

    with Supervisor(
        (ToolConfig(name="python_coder"), search), log_dir=tmp_path / "logs"
    ) as supervisor:
        return asyncio.run(read(supervisor.configs))


def test_the_base_knows_the_prompts(tmp_path: Path) -> None:
    """Its tokenizer has the prompts' fixed sentences as single tokens: a prompt that changed falls
    apart into hundreds of tokens, and the model no longer finds the question in it."""
    tokenizer = AutoTokenizer.from_pretrained(BASE)
    tools, prompts = specs(tmp_path), Prompts.shipped()
    fields = {
        "query": "What is 12 + 201?",
        "analysis": "A calculation.",
        "memory": "None yet.",
    }
    for spec, shown in [(tools[0], tools), *((spec, [spec]) for spec in tools)]:
        more = {**modules.executor_fields(spec), **modules.planner_fields(shown, 3)}
        for module in modules.MODULES:
            prompt = prompts[module].render(
                context="none",
                sub_goal="Add 12 and 201",
                **more,
                **fields,
            )
            ids = tokenizer.apply_chat_template(
                prompt, add_generation_prompt=True, tokenize=True, return_dict=False
            )
            assert len(ids) < 80, (
                f"{module} with {spec.name} of {len(shown)}: {len(ids)} tokens;"
                " if the prompt changed on purpose, run base_model.py again"
            )
