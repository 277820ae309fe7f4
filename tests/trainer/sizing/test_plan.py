"""A run is refused for what certainly does not fit, with the option that helps, and told what is
tight.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import verl  # noqa: F401 - registers the search path
from hydra import compose, initialize_config_dir

from agentflow_verl.cli import main as cli
from agentflow_verl.trainer.preflight.static import load_settings
from agentflow_verl.trainer.sizing import host
from agentflow_verl.trainer.sizing.machine import Machine, machine_here
from agentflow_verl.trainer.sizing.model import size_of
from agentflow_verl.trainer.sizing.plan import GIB, Plan, make_plan
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


def planned(qwen: Path, recipe: str, *overrides: str, machine: Machine = BIG) -> Plan:
    with initialize_config_dir(str(RECIPES), version_base=None):
        config = compose(recipe, [VERL, f"actor_rollout_ref.model.path={qwen}", *overrides])
    return make_plan(config, load_settings(config), size_of(str(qwen)), machine)


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
    found = planned(qwen, recipe, *overrides, machine=machine).problems
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


def test_only_a_run_of_this_machine_alone_is_compared_with_it(qwen, monkeypatch) -> None:
    with initialize_config_dir(str(RECIPES), version_base=None):
        config = compose("paper/paper", [VERL, "ray_kwargs.ray_init.num_cpus=null"])
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    assert machine_here(config).cpus is None and machine_here(config).disk_bytes > 0
    monkeypatch.delenv("RAY_ADDRESS")
    assert machine_here(config).cpus is not None


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
