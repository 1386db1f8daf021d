"""The table of the poster's rows: GLIP-L's known numbers, and a page that is current."""

from __future__ import annotations

import csv
import io
import json
import re

import pytest
from mmengine.config import Config

from mmsdpt.utils.errors import InputError
from projects.sdpt_poster import param_flops
from projects.sdpt_poster.cost import CostMeter
from projects.sdpt_poster.poster import PLAIN, ROWS, config_rows
from projects.sdpt_poster.table import to_markdown
from tests.tuners.contract_glip import GLIPHost
from tests.tuners.contract_hosts import methods_of

CONFIG = "configs/mini/sdpt_mini_thermal.py"
SMALL = ("--size", "160", "--tokens", "20")
PAGE = "docs/param_flops.md"


@pytest.fixture(scope="module")
def glip_l(tmp_path_factory):
    """Rows of the table: GLIP-L without a method, and with SDPT at k = 10."""
    with pytest.MonkeyPatch.context() as patch:
        only = [row for row in ROWS if row.method == "SDPT, k = 10"]
        patch.setattr(
            "projects.sdpt_poster.poster.config_rows", lambda folder: config_rows(folder, only)
        )
        from projects.benchmark.random_bert import make_bert

        bert = tmp_path_factory.mktemp("bert")
        make_bert(bert)
        return param_flops.poster_table(CostMeter(param_flops.use_plain_fusion), str(bert))


def test_glip_l_has_its_known_numbers(glip_l):
    plain = glip_l[0].cost
    assert plain.total == 430_401_824
    assert plain.poster_macs / 1e9 == pytest.approx(718.50, abs=0.005)
    assert plain.macs / 1e9 == pytest.approx(1013.76, abs=0.005)
    found = {name: round(macs / 1e9, 1) for name, macs in plain.parts.items()}
    assert found.pop("rest") < 1
    assert found == {
        "image encoder": 518.4,
        "neck": 9.6,
        "text encoder": 23.0,
        "X-MHA": 345.5,
        "fused text layers": 15.3,
        "dynamic convolution": 101.2,
    }


def test_a_token_of_sdpt_costs_what_its_linears_cost(glip_l):
    plain, sdpt = (row.cost for row in glip_l)
    assert sdpt.trainable == 163_840
    per_token = 8 * 3 * 2048 * (256 + 768)
    assert per_token == 50_331_648
    assert sdpt.poster_macs - plain.poster_macs == 10 * per_token
    positions, words = 13_343, 256
    attention = 8 * 3 * 2048 * (10 * (positions + words) + 100)
    assert sdpt.macs - plain.macs == 10 * per_token + attention


def test_every_method_of_the_detector_has_a_row(repository):
    rows = config_rows(repository / "configs")
    found = {Config.fromfile(row.config).model.tuner.type for row in rows}
    assert found == {f"mmsdpt.{name}" for name in methods_of(GLIPHost)}


def rows_of(markdown: str) -> dict[str, list[str]]:
    """Cells of the table's rows by label, without the numbers of notes."""
    lines = re.findall(r"^\| (.+) \|$", markdown, flags=re.MULTILINE)
    return {cells[0]: cells[1:9] for cells in (line.split(" | ") for line in lines)}


def test_the_page_has_every_config_of_the_poster(repository):
    labels = [entry.label for entry in config_rows(repository / "configs")]
    page = rows_of((repository / PAGE).read_text(encoding="utf-8"))
    for label in (PLAIN.method, *labels):
        assert label in page, f"{PAGE} has no row {label!r}: write it again with --table --out"
    for row in ROWS:
        assert row.method in labels, f"no config for the poster's row {row.method!r}"


def test_the_pages_first_rows_are_current(repository, glip_l):
    page = rows_of((repository / PAGE).read_text(encoding="utf-8"))
    counted = rows_of(to_markdown(glip_l))
    for row in glip_l:
        assert page[row.label] == counted[row.label], f"{PAGE} is not current"


@pytest.mark.slow
def test_the_page_is_current(repository, monkeypatch):
    monkeypatch.chdir(repository)
    assert param_flops.main(["--check", PAGE]) == 0


def test_the_formats_say_the_same(glip_l):
    def text(name: str) -> str:
        return param_flops.render(glip_l, param_flops.parse_args(["--table", "--format", name]))

    content = json.loads(text("json"))
    assert content["image"] == [800, 800] and content["tokens"] == 256
    assert content["parts_gmacs"]["X-MHA"] == pytest.approx(345.45, abs=0.01)
    lines = list(csv.DictReader(io.StringIO(text("csv"))))
    cells = rows_of(text("md"))
    for row, line in zip(content["rows"], lines, strict=True):
        assert {key: "" if value is None else str(value) for key, value in row.items()} == line
        trainable, _, total, macs, as_poster, executed, par, flops = cells[row["method"]]
        assert (trainable, total) == (f"{row['trainable']:,}", f"{row['total']:,}")
        for found, name in ((macs, "gmacs"), (as_poster, "gmacs_as_poster")):
            assert float(found.replace(",", "")) == pytest.approx(row[name], abs=0.006)
        assert executed == f"{row['gmacs_executed']:,.2f}"
    assert (content["rows"][1]["poster_par_m"], par) == (0.16, "0.16")
    assert (content["rows"][1]["poster_flops_g"], flops) == (724.77, "724.77")


def test_one_model_is_printed_without_the_posters_columns(repository, capsys):
    options = ["--cfg-options", "model.tuner.num_tokens=2"]
    assert param_flops.main([str(repository / CONFIG), *SMALL, *options]) == 0
    text = capsys.readouterr().out
    assert f"| sdpt_mini_thermal | {3 * 2 * 256:,} |" in text
    assert "poster: #Par" not in text and "| X-MHA |" in text


def test_a_config_of_another_model_is_refused(repository):
    with pytest.raises(InputError, match="has a model of type mmsdpt.CLIP, expected mmsdpt.GLIP"):
        param_flops.model_config(repository / "configs/mudpt/mudpt_vit_b16_eurosat.py", "bert")


def test_a_page_that_is_not_current_is_noticed(tmp_path, capsys):
    page = tmp_path / "page.md"
    page.write_text("a\nold\n")
    assert param_flops.check("a\nold\n", page) == 0
    assert param_flops.check("a\nnew\n", page) == 1
    error = capsys.readouterr().err
    assert "-old" in error and "+new" in error and "is not current" in error


@pytest.mark.parametrize(
    "flags", [[], ["c.py", "--table"], ["c.py", "--size", "8"], ["c.py", "--size", "64", "64", "1"]]
)
def test_bad_arguments_are_refused(flags, capsys):
    with pytest.raises(SystemExit) as error:
        param_flops.parse_args(flags)
    assert error.value.code == 2
    assert "error:" in capsys.readouterr().err
