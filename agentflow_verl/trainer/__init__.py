"""What plugs into verl: the only package that imports verl, Ray, vLLM or SGLang.

``plugin.py`` is the entry point that verl loads, ``launch.py`` what happens before and after a run,
``trainers.py`` the registered trainer modes. ``rollout/`` makes trajectories, ``batching/`` turns
them into optimizer steps, ``preflight/`` checks a run before it starts, ``resilience/`` resumes it
and cleans up, ``cpu/`` runs verl and vLLM without an accelerator.
"""
