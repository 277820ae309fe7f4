"""Rows that begin alike are computed once: shared prefixes in log-probabilities and update.

tree.py           rows as one tree of distinct tokens, and its cut into micro-batches
attention.py      attention in which each token sees its own row's path
engine.py         verl's FSDP engine over such trees
trainer.py        the trainer's side: marks batches, counts what is saved
support.py        which runs can, and why another cannot
"""
