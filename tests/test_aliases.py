"""Aliases: a table becomes addresses, and none of them can stand in front of another."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.routes import ENDPOINTS, Alias, AliasError, declare
from gateway.settings import SettingsError, load
from tests.wire.doubles import BOUNDED

BUILT_IN = [
    "/api/autopilot/stream",
    "/api/generation/stream",
    "/api/v1/agents/{any_agent_id}/tasks/{id}/events/stream",
]


def paths(*aliases: Alias) -> list[str]:
    return [endpoint.path for endpoint in declare(aliases)]


def test_without_a_setting_there_are_those_of_the_protocol():
    assert paths() == BUILT_IN
    assert [endpoint.dialect for endpoint in declare()] == ["plain", "plain", "workflow"]


def test_an_alias_is_an_endpoint_like_every_other():
    (made, *_) = declare([Alias("/a/{b}", "b", "content")])
    assert (made.method, made.path, made.scopes, made.joins, made.public) == (
        "GET",
        "/a/{id}",
        ("runs:read",),
        True,
        False,
    )
    assert made.names_run


def test_a_free_part_never_takes_the_place_of_the_run():
    assert paths(Alias("/t/{id}/x/{task}", "task", "plain"))[0] == "/t/{any_id}/x/{id}"
    assert paths(Alias("/my/{file}/stream", "latest:words", "plain"))[0] == "/my/{any_file}/stream"


def test_an_alias_of_ones_own_goes_before_a_built_in_one():
    own = Alias("/api/autopilot/stream", "job", "content")
    assert paths(own) == BUILT_IN
    assert declare([own])[0].dialect == "content"
    assert paths(Alias("/api/{area}/stream", "task", "plain")) == ["/api/{any_area}/stream", BUILT_IN[2]]


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: f"{endpoint.method} {endpoint.path}")
@given(data=st.data())
@BOUNDED
def test_no_alias_can_mean_a_fixed_address(endpoint, data):
    """Any spelling of a fixed path, with parts of it free or named, is refused."""
    parts = [
        data.draw(st.sampled_from([part, f"{{free{number}}}"]) if "{" not in part else st.sampled_from(["{x}", "word"]))
        for number, part in enumerate(endpoint.path.split("/")[1:])
    ]
    with pytest.raises(AliasError) as caught:
        declare([Alias("/" + "/".join(parts), "run", "plain")])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "alias",
    [
        Alias("/ws", "run", "plain"),
        Alias("/{x}", "x", "plain"),
        Alias("/", "run", "plain"),
        Alias("", "run", "plain"),
        Alias("api", "run", "plain"),
        Alias("/api/", "run", "plain"),
        Alias("//api", "run", "plain"),
        Alias("/api?x=", "x", "plain"),
        Alias("/api/a b", "run", "plain"),
        Alias("/api/<path:x>", "x", "plain"),
        Alias("/api/x{y}", "y", "plain"),
        Alias("/api/{}", "run", "plain"),
        Alias("/api/{1}", "1", "plain"),
        Alias("/api/{x}/{x}", "x", "plain"),
        Alias("/api/\n", "run", "plain"),
        Alias("/api/x", "", "plain"),
        Alias("/api/x", "a b", "plain"),
        Alias("/api/x", "latest:", "plain"),
        Alias("/api/x", "run", "klingon"),
        *(Alias("/api/x", name, "plain") for name in ("after", "replay", "types", "dialect", "ticket")),
    ],
    ids=str,
)
def test_an_alias_that_cannot_be_served_is_refused_in_one_line(alias):
    with pytest.raises(AliasError) as caught:
        declare([alias])
    assert "\n" not in str(caught.value)


def test_two_aliases_that_could_both_be_meant_are_refused():
    with pytest.raises(AliasError, match="already"):
        declare([Alias("/a/{b}", "b", "plain"), Alias("/{a}/b", "a", "plain")])
    assert len(paths(Alias("/a/b", "run", "plain"), Alias("/a/c", "run", "plain"))) == 2 + len(BUILT_IN)


@pytest.mark.parametrize(
    "text",
    ["{", "{}", "[1]", '[{"pattern": "/a"}]', '[{"pattern": "/a", "run": 1, "dialect": "plain"}]', "a,b", "null",
     '[{"pattern": "/a", "run": "r", "dialect": "plain", "more": 1}]'],
)  # fmt: skip
def test_a_table_of_another_form_is_refused_by_its_name(monkeypatch, text):
    monkeypatch.setenv("RUNCAST_ALIASES", text)
    with pytest.raises(SettingsError) as caught:
        load()
    assert str(caught.value).startswith("RUNCAST_ALIASES: ")
    assert "\n" not in str(caught.value)
