"""docs/hosts.md says which host has which seams and methods; the code decides."""

from __future__ import annotations

import re

import pytest

from tests.tuners.contract_clip import CLIPHost
from tests.tuners.contract_glip import GLIPHost
from tests.tuners.contract_grounding_dino import GroundingDINOHost
from tests.tuners.contract_hosts import REPOSITORY, methods_of, registered_methods

PAGE = (REPOSITORY / "docs" / "hosts.md").read_text()
HOSTS = (GLIPHost, GroundingDINOHost, CLIPHost)


def table(heading: str) -> dict[str, list[str]]:
    """Rows of the table under a heading: the first cell without backticks, and the hosts with
    "yes", or with "old files only".
    """
    section = PAGE.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    rows = [
        [cell.strip(" `") for cell in line.strip("| ").split("|")]
        for line in section.splitlines()
        if line.startswith("|")
    ]
    header, _, *body = rows
    names = [re.sub(r"\W", "", name) for name in header]
    offered = ("yes", "old files only")
    return {
        row[0]: [n for n, cell in zip(names, row, strict=True) if cell in offered] for row in body
    }


@pytest.mark.parametrize("kind", ["Seams", "Methods"])
def test_the_page_says_what_each_host_offers(kind):
    found = table(kind)
    for host in HOSTS:
        offered = host.kinds() if kind == "Seams" else set(methods_of(host))
        assert {name for name, hosts in found.items() if host.name in hosts} == set(offered)
    if kind == "Methods":
        assert set(found) == set(registered_methods())
