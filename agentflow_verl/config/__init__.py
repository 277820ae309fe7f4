"""Hydra configs shipped in the package, and the schema of their ``agentflow:`` node."""
