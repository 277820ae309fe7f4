"""The one place for dependencies and extras. ``install.sh`` does what an extra cannot express."""

from pathlib import Path

from setuptools import find_packages, setup

VERSION = "0.1.0"

# Used by the agent without a trainer.
FLOW = [
    "aiohttp>=3.11",
    "jsonschema>=4.21",
    "pydantic>=2.9",
    "math-verify[antlr4_9_3]>=0.7,<1",  # antlr 4.9.3 is what hydra-core and omegaconf need
]

# Used by training. verl is exact: the plugin sits on named methods of this release (trainer/modes.py).
TRAIN = ["verl==0.9.1", "wrapt>=1.15,<3", "psutil>=5.9", "pyarrow>=15"]

# The tool servers, each its own process.
TOOLS = ["mcp>=2.3,<3", "uvicorn>=0.30", "starlette>=1.0", "bm25s>=0.2,<1"]

CPU = ["torch==2.13.0"]

setup(
    name="agentflow_verl",
    version=VERSION,
    description="Train the planner of a tool-using agent in its own loop, with Flow-GRPO, on stock verl",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8") if Path(__file__).with_name("README.md").exists() else "",
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10,<3.13",
    packages=find_packages(include=["agentflow_verl", "agentflow_verl.*", "tool_servers", "tool_servers.*"]),
    package_data={"agentflow_verl": ["config/**/*.yaml", "config/*.yaml", "flow/prompts/*.md"]},
    install_requires=FLOW + TRAIN + TOOLS,
    extras_require={"cpu": CPU},
    entry_points={
        "verl.plugins": ["agentflow = agentflow_verl.trainer.plugin"],
        "console_scripts": ["agentflow = agentflow_verl.cli:main"],
    },
)
