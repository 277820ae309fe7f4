"""A run is refused for what certainly does not fit, with the option that helps, and told what is
tight.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import verl  # noqa: F401 - registers the search path
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from agentflow_verl.cli import main as cli
from agentflow_verl.trainer.preflight.static import load_settings
from agentflow_verl.trainer.sizing import host
from agentflow_verl.trainer.sizing.machine import Machine, machine_here
from agentflow_verl.trainer.sizing.model import size_of
from agentflow_verl.trainer.sizing.plan import GIB, Plan, known_steps, make_plan
from tests.trainer.sizing.test_model import PUBLISHED, WIDTHS

RECIPES = Path(__file__).parents[3] / "recipes"
VERL = "hydra.searchpath=[pkg://verl.trainer.config]"
BIG = Machine(1, 8, 80 * GIB, 96, 2000 * GIB)


def write_config(folder: Path, name: str) -> Path:
    """A model's configuration, without weights."""
    _, config, widths = PUBLISHED[name]
    (folder / "config.json").write_text(json.dumps({**config, **dict(zip(WIDTHS, widths))}))
    return folder


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_config(tmp_path_factory.mktemp("qwen"), "Qwen2.5-7B-Instruct")


def composed(recipe: str, *overrides: str) -> DictConfig:
    with initialize_config_dir(str(RECIPES), version_base=None):
        return compose(recipe, [VERL, *overrides])


def planned(
    qwen: Path,
    recipe: str,
    *overrides: str,
    machine: Machine = BIG,
    steps: int | None = None,
    **changed: object,
) -> Plan:
    """``changed``: facts of the model."""
    config = composed(recipe, f"actor_rollout_ref.model.path={qwen}", *overrides)
    model = replace(size_of(str(qwen)), **changed)
    return make_plan(config, load_settings(config), model, machine, steps)


def test_the_papers_run_fits_its_node(qwen: Path) -> None:
    plan = planned(qwen, "paper/paper")
    assert not plan.problems and not plan.warnings
    state = {part.name: part.update / GIB for part in plan.parts}
    per_gpu = 7_615_616_512 / 7 / GIB
    assert state["weights"] == pytest.approx(4 * per_gpu)
    assert state["optimizer"] == pytest.approx(8 * per_gpu)
    assert dict(plan.facts)["checkpoint"].startswith("85.1 GiB")  # 91.4 GB: 12 bytes a parameter


@pytest.mark.parametrize(
    ("recipe", "name", "gpus", "gpu_gib", "nodes"),
    [
        ("async/colocate", "Qwen2.5-7B-Instruct", 8, 80, 1),
        ("async/separate", "Qwen2.5-7B-Instruct", 8, 80, 1),
        ("base_models/llama3.1-8b", "Llama-3.1-8B-Instruct", 8, 80, 1),
        ("multi_node/multi_node", "Qwen2.5-7B-Instruct", 8, 80, 5),
        ("one_gpu/lora", "Qwen2.5-7B-Instruct", 1, 80, 1),
        ("one_gpu/full", "Qwen2.5-3B-Instruct", 1, 68, 1),  # beside the frozen server's 12
        ("one_gpu/full", "Qwen2.5-1.5B-Instruct", 1, 68, 1),
    ],
)
def test_a_recipe_fits_the_machine_of_its_readme(
    recipe, name, gpus, gpu_gib, nodes, tmp_path
) -> None:
    machine = Machine(nodes, gpus, gpu_gib * GIB, 96)
    plan = planned(write_config(tmp_path, name), recipe, machine=machine)
    assert not plan.problems, plan.problems
    for phase in ("update", "log_probs", "sampling"):
        assert plan.total(phase) < gpu_gib * GIB, [(part.name, part) for part in plan.parts]


@pytest.mark.parametrize(
    ("recipe", "overrides", "machine", "said"),
    [
        ("one_gpu/full", (), BIG, "weights, gradients and optimizer alone are 113"),
        ("paper/paper", (), Machine(1, 8, 24 * GIB), "stay there with 12.2 GiB"),
        ("paper/paper", (), Machine(1, 4, 80 * GIB), "8 are asked for, 4 are there"),
        (
            "paper/paper",
            ("actor_rollout_ref.rollout.gpu_memory_utilization=0.1",),
            BIG,
            "the server's weights are 14.2 GiB",
        ),
        (
            "paper/paper",
            ("actor_rollout_ref.rollout.gpu_memory_utilization=0.18",),
            BIG,
            "cannot hold one sequence",
        ),
        ("paper/paper", (), Machine(1, 8, 80 * GIB, 16), "Ray would wait for 32, and counts 16"),
        ("paper/paper", (), Machine(1, 8, 80 * GIB, 96, 100 * GIB), "do not fit in 100.0 GiB"),
    ],
)
def test_what_cannot_fit_is_a_problem(qwen, recipe, overrides, machine, said) -> None:
    found = planned(qwen, recipe, *overrides, machine=machine, steps=100).problems
    assert any(said in problem for problem in found), found
    assert all("=" in problem or "lower" in problem or "raise" in problem for problem in found)


def test_the_option_that_is_named_helps(qwen: Path) -> None:
    assert not planned(qwen, "one_gpu/lora").problems
    on_host = ("actor.strategy=fsdp2", "actor.fsdp_config.offload_policy=true")
    overrides = [f"actor_rollout_ref.{option}" for option in on_host]
    assert not planned(qwen, "one_gpu/full", *overrides).problems
    few = Machine(1, 8, 80 * GIB, 25)
    assert planned(qwen, "paper/paper", machine=few).problems
    units = "transfer_queue.backend.SimpleStorage.num_data_storage_units=1"
    assert not planned(qwen, "paper/paper", units, machine=few).problems


def test_what_is_tight_is_a_warning(qwen: Path) -> None:
    long = "actor_rollout_ref.actor.ppo_max_token_len_per_gpu=98304"
    plan = planned(qwen, "paper/paper", long)
    assert not plan.problems
    assert "the update may need" in plan.warnings[0]
    assert "ppo_max_token_len_per_gpu" in plan.warnings[0]


SHARE = "actor_rollout_ref.rollout.gpu_memory_utilization"
OPTIM = "actor_rollout_ref.actor.optim"
TYPE = "actor_rollout_ref.actor.fsdp_config.model_dtype"
ENGINE = "+actor_rollout_ref.rollout.engine_kwargs.vllm"


@pytest.mark.parametrize(
    ("overrides", "model"),
    [
        (("actor_rollout_ref.rollout.quantization=fp8",), {}),
        ((f"{ENGINE}.kv_cache_dtype=fp8",), {}),
        ((f"{ENGINE}.cpu_offload_gb=8",), {}),
        ((), {"plain": False}),
    ],
)
@pytest.mark.parametrize(("share", "said"), [(0.1, "weights are"), (0.18, "one sequence")])
def test_a_server_is_refused_only_where_its_memory_is_certain(
    qwen, overrides, model, share, said
) -> None:
    assert planned(qwen, "paper/paper", f"{SHARE}={share}").problems
    plan = planned(qwen, "paper/paper", f"{SHARE}={share}", *overrides, **model)
    assert not plan.problems
    assert any(said in warning for warning in plan.warnings)


def test_servers_on_gpus_of_their_own_leave_the_training_gpus_alone(qwen: Path) -> None:
    large = (f"{SHARE}=0.9", "actor_rollout_ref.actor.fsdp_config.optimizer_offload=false")
    large += ("actor_rollout_ref.actor.fsdp_config.param_offload=false",)
    assert planned(qwen, "paper/paper", *large, "trainer.n_gpus_per_node=4").problems
    plan = planned(qwen, "async/separate", *large)
    assert not plan.problems  # verl's servers on the training GPUs sleep but for a validation
    assert "stay there with" in plan.warnings[0]
    plan = planned(qwen, "async/separate", *large, "actor_rollout_ref.hybrid_engine=false")
    assert not plan.problems and not plan.warnings
    assert "server" not in [part.name for part in plan.parts]


@pytest.mark.parametrize(
    "overrides",
    [
        (f"{OPTIM}.optimizer=SGD",),
        (f"{OPTIM}.optimizer=AdamW8bit", f"{OPTIM}.optimizer_impl=bitsandbytes.optim"),
    ],
)
def test_an_optimizer_that_is_not_counted_refuses_nothing(qwen, overrides) -> None:
    assert planned(qwen, "one_gpu/full").problems
    plan = planned(qwen, "one_gpu/full", *overrides)
    assert not plan.problems and "alone are 113" in plan.warnings[0]
    small = Machine(1, 8, 80 * GIB, 96, 60 * GIB)  # the weights alone fit, 28 GiB
    one = ("trainer.max_actor_ckpt_to_keep=1",)
    assert planned(qwen, "paper/paper", *one, machine=small, steps=9).problems
    assert not planned(qwen, "paper/paper", *one, *overrides, machine=small, steps=9).problems


def test_storage_units_are_counted_for_the_backend_that_starts_them(qwen: Path) -> None:
    few = Machine(1, 8, 80 * GIB, 25)
    backend = "transfer_queue.backend.storage_backend=MooncakeStore"
    assert planned(qwen, "paper/paper", machine=few).problems
    assert not planned(qwen, "paper/paper", backend, machine=few).problems


def test_checkpoints_of_unknown_steps_are_a_warning(qwen: Path) -> None:
    small = Machine(1, 8, 80 * GIB, 96, 100 * GIB)
    assert planned(qwen, "paper/paper", machine=small, steps=100).problems
    plan = planned(qwen, "paper/paper", machine=small)
    assert not plan.problems and "do not fit in 100.0 GiB" in plan.warnings[0]
    assert planned(qwen, "paper/paper", machine=replace(small, disk_bytes=50 * GIB)).problems


def test_steps_are_those_of_the_rows_that_are_read(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    file = tmp_path / "rows.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"question": ["?"] * 100}), file)
    config = composed(
        "paper/paper",
        f"data.train_files={file}",
        "data.train_batch_size=10",
        "data.filter_overlong_prompts=false",
        "trainer.total_epochs=2",
        "trainer.total_training_steps=null",
    )
    assert known_steps(config) == 20
    config.data.train_max_samples = 30
    assert known_steps(config) == 6
    config.data.filter_overlong_prompts = True
    assert known_steps(config) is None


def test_weights_are_in_fp32_unless_a_type_is_named(qwen: Path) -> None:
    for kind, size in (("null", 4), ("fp32", 4), ("bf16", 2)):
        plan = planned(qwen, "paper/paper", f"{TYPE}={kind}")
        assert plan.parts[0].how.startswith(f"{size} bytes")


@pytest.mark.parametrize("targets", ["'.*_proj'", "null"])
def test_an_adapter_whose_matrices_are_not_named_refuses_nothing(qwen, targets) -> None:
    lora = ("one_gpu/lora", "actor_rollout_ref.model.lora_rank=8192")
    assert planned(qwen, *lora).problems
    plan = planned(qwen, *lora, f"actor_rollout_ref.model.target_modules={targets}")
    assert not plan.problems and "alone are" in plan.warnings[0]


def test_verl_and_ray_set_aside_as_many_cpus_as_are_counted() -> None:
    import inspect

    from transfer_queue import controller
    from transfer_queue.storage import simple_storage
    from verl.single_controller.ray.base import ResourcePoolManager
    from verl.workers.rollout.replica import RolloutReplica

    assert ResourcePoolManager.max_colocate_count == host.CPUS_PER_TRAINING_GPU
    standalone = inspect.getsource(RolloutReplica.init_standalone)
    assert f"max_colocate_count={host.CPUS_PER_SERVING_GPU}" in standalone
    for module in (controller, simple_storage):
        assert "@ray.remote(num_cpus=1)" in inspect.getsource(module)


@pytest.mark.slow
def test_ray_places_an_actor_without_a_demand_where_no_cpu_is_free() -> None:
    import ray
    from ray.util.placement_group import placement_group

    @ray.remote
    class Actor:
        def answer(self) -> int:
            return 1

    ray.init(num_cpus=2, include_dashboard=False, address="local")
    try:
        actors = [Actor.remote() for _ in range(3)]  # more than there are CPUs
        assert ray.get([actor.answer.remote() for actor in actors], timeout=60) == [1, 1, 1]
        ray.get(placement_group([{"CPU": 2}]).ready(), timeout=60)
        assert ray.get(Actor.remote().answer.remote(), timeout=60) == 1
    finally:
        ray.shutdown()


def test_only_a_run_of_this_machine_alone_is_compared_with_it(monkeypatch, tmp_path) -> None:
    from ray._common.utils import get_ray_address_file

    config = composed("paper/paper", "ray_kwargs.ray_init.num_cpus=null")
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    assert machine_here(config).cpus is None and machine_here(config).disk_bytes > 0
    monkeypatch.delenv("RAY_ADDRESS")
    assert machine_here(config).cpus is not None
    left_by_ray_start = Path(get_ray_address_file(None))
    left_by_ray_start.parent.mkdir()
    left_by_ray_start.write_text("head:6379")
    assert machine_here(config).cpus is None
    config = composed("paper/paper", "+ray_kwargs.ray_init.address=local")
    assert machine_here(config).cpus is not None


def test_gpus_that_ray_is_told_of_are_those_that_count(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    config = composed("paper/paper", "+ray_kwargs.ray_init.num_gpus=8")
    assert machine_here(config).gpus == 8


def test_the_command_prints_parts_and_what_does_not_fit(qwen, capsys) -> None:
    words = ["plan", "--config-dir", str(RECIPES), "--config-name", "one_gpu/full"]
    words += [f"actor_rollout_ref.model.path={qwen}", "--gpus", "1", "--gpu-memory", "80"]
    assert cli.main([*words, "--cpus", "16", "--disk", "500"]) == 1
    printed = capsys.readouterr().out
    assert "7,615,616,512 parameters" in printed
    for name in ("weights", "gradients", "optimizer", "logits", "server", "CPUs for Ray"):
        assert f"\n{name}" in printed
    assert "does not fit  GPU memory: weights, gradients and optimizer alone" in printed
    assert cli.main([*words[:5], f"actor_rollout_ref.model.path={qwen}"]) == 0  # nothing to compare
