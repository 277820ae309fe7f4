"""User ids for jobs."""

from __future__ import annotations

from tool_servers.python_coder.sandbox.slots import claim_uids


def test_two_servers_take_different_user_ids() -> None:
    (one, first), (two, second) = claim_uids(4), claim_uids(4)
    with first, second:
        assert not set(one) & set(two)
