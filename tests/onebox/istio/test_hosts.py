from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from onebox.istio.hosts import Group, HostTable
from onebox.istio.registry import Listener

PUBLIC = Listener.PUBLIC
OLD, NEW = ("ns", "old"), ("ns", "new")


def test_hosts_of_the_same_owners_are_one_virtual_host() -> None:
    table = HostTable()
    table.claim(PUBLIC, OLD, created="1", hosts=["b", "a", "a"])
    (group,) = table.take_changed()
    assert (group.name, table.domains(group)) == ("ns/old", ["a", "b"])


def test_the_oldest_comes_first_whoever_came_later() -> None:
    table = HostTable()
    table.claim(PUBLIC, NEW, created="2", hosts=["a", "b"])
    table.claim(PUBLIC, OLD, created="1", hosts=["a"])
    assert table.owners(PUBLIC, "a") == (OLD, NEW)
    assert table.owners(PUBLIC, "b") == (NEW,)
    assert [group.name for group in table.shared()] == ["ns/old+ns/new"]


def test_hosts_that_nobody_claims_any_more_are_gone() -> None:
    table = HostTable()
    table.claim(PUBLIC, OLD, created="1", hosts=["a"])
    table.take_changed()
    table.claim(PUBLIC, OLD, created="1", hosts=[])
    assert table.take_changed() == {Group(PUBLIC, (OLD,))}
    assert table.domains(Group(PUBLIC, (OLD,))) == []
    assert table.owners(PUBLIC, "a") == ()


def test_listeners_have_nothing_to_do_with_each_other() -> None:
    table = HostTable()
    table.claim(PUBLIC, OLD, created="1", hosts=["a"])
    table.claim(Listener.LOCAL, NEW, created="1", hosts=["a"])
    assert (table.owners(PUBLIC, "a"), table.owners(Listener.LOCAL, "a")) == ((OLD,), (NEW,))


claims = st.tuples(st.sampled_from("abcd"), st.lists(st.sampled_from("uvwxyz"), max_size=4))


@given(st.lists(claims, max_size=20))
def test_every_claimed_host_is_in_one_virtual_host(steps: list[tuple[str, list[str]]]) -> None:
    table, expected = HostTable(), dict[str, list[str]]()
    for owner, hosts in steps:
        table.claim(PUBLIC, ("ns", owner), created=owner, hosts=hosts)
        expected[owner] = hosts
    claimed = {host: sorted(owner for owner, hosts in expected.items() if host in hosts) for host in "uvwxyz"}
    groups = {group for owner in expected for group in table.groups_of(PUBLIC, ("ns", owner))}
    domains = [host for group in groups for host in table.domains(group)]
    assert sorted(domains) == [host for host in "uvwxyz" if claimed[host]]
    for host, owners in claimed.items():
        assert [owner for _, owner in table.owners(PUBLIC, host)] == owners
