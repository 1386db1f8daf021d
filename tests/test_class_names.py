"""Class names are compared as the model sees them: names that it cannot tell apart, or cannot read,
are said with the way out.
"""

import unicodedata

import pytest

from mmsdpt.utils.class_names import (
    as_read,
    check_class_names,
    chosen_names,
    name_problems,
    one_form,
    parse_names,
    parse_renames,
    rows_by_name,
)
from mmsdpt.utils.errors import InputError

ACCENT = "caf\u00e9"

TWINS = {
    "parentheses": ("circle (M3)", "circle (M5)"),
    "underscore and case": ("traffic_light", "Traffic Light"),
    "double space": ("traffic  light", "traffic light"),
    "encodings of a letter": (ACCENT, unicodedata.normalize("NFD", ACCENT)),
    "accent": (ACCENT, "cafe"),
    "full width": ("\uff43\uff41\uff54", "cat"),
    "the same": ("cat", "cat"),
    "zero-width space": ("cat\u200b", "cat"),
    "mark of direction": ("cat", "\u200fcat\u200e"),
    "byte order mark": ("\ufeffcat", "cat"),
    "soft hyphen": ("cat\u00ad", "cat"),
}


@pytest.mark.parametrize("names", TWINS.values(), ids=TWINS)
def test_two_classes_of_one_text_are_refused_with_both_names(names):
    with pytest.raises(InputError) as error:
        check_class_names([*names, "dog"], source="the data")
    assert all(repr(name) in str(error.value) for name in names)
    assert "'dog'" not in str(error.value) and "different name" in str(error.value)
    check_class_names([*names, "dog"], source="the data", strict=False)


def test_signs_that_nobody_sees_leave_a_name():
    for name in ("cat\u200b", "\ufeffcat", "\u202bcat\u202c", "ca\u00adt", "\u2066cat\u2069 "):
        assert one_form(name) == "cat"
    family, persian = "\U0001f469\u200d\U0001f467", "\u0645\u06cc\u200c\u062e"
    assert one_form(family) == family and one_form(persian) == persian


def test_different_names_pass():
    assert name_problems(["cat", "dog", "hot dog", "dog house", "M3", "M5"]) == ([], [], [])


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("", "is empty"),
        ("  ", "is empty"),
        ("(unknown)", "ignores text in parentheses"),
        (True, "is a bool"),
        (3, "is a int"),
        ("\ud800", "broken or control character"),
        ("c\x1b[31mat", "broken or control character"),
    ],
)
def test_names_of_which_nothing_is_left_are_refused_also_where_twins_are_not(name, why):
    with pytest.raises(InputError, match=why):
        check_class_names(["cat", name], source="the data", strict=False)


def test_letters_that_only_look_latin_are_doubtful():
    assert name_problems(["cat", "\u0441at"])[2] == [
        "'\u0441at' mixes Latin letters with lookalikes"
    ]
    assert not name_problems(["caf\u00e9", "na\u00efve", "M3"])[2]


def test_numbers_are_doubtful():
    assert "'17' is a number" in name_problems(["17", "cat"])[2][0]


def test_names_with_commas_come_in_quotes():
    assert parse_names('a, b,"c, d"') == ["a", "b", "c, d"]
    assert parse_names('a\nb, c\r\n"d, e"\n') == ["a", "b", "c", "d, e"]  # of a file, one a line


@pytest.mark.parametrize("text", ["", "a,b,a", "a,,b", " "])
def test_names_that_are_chosen_are_different_ones(text):
    with pytest.raises(InputError, match="--classes needs different names"):
        chosen_names(text)
    assert chosen_names(None) is None and chosen_names("a, b") == ["a", "b"]


def test_renames_are_pairs():
    assert parse_renames(["RBC=red cell", "a b = c=d"]) == {"RBC": "red cell", "a b": "c=d"}
    for wrong in (["RBC"], ["=x"], ["x="], ["a=b", "a=c"]):
        with pytest.raises(InputError, match="OLD=NEW"):
            parse_renames(wrong)


def test_rows_follow_names_in_any_order_and_spelling():
    trained = ("hot dog", "Cat", ACCENT)
    assert rows_by_name(trained, ("Cat", "hot_dog")) == [1, 0]
    assert rows_by_name(trained, (unicodedata.normalize("NFD", ACCENT),)) == [2]
    with pytest.raises(InputError, match="'hot dog', 'Cat'.* knows nothing of 'mouse'"):
        rows_by_name(trained, ("mouse",))


def test_one_form_is_nfc_and_single_spaces():
    assert one_form(f" {unicodedata.normalize('NFD', ACCENT)}  x ") == f"{ACCENT} x"
    assert as_read("Blood_Orange (ripe)").text == "blood orange"


class TestDetector:
    """GLIP with its own vocabulary."""

    @pytest.fixture(scope="class")
    def detector(self, repository):
        from mmengine.config import Config
        from mmengine.registry import init_default_scope

        import mmsdpt.hosts
        import mmsdpt.tuners  # noqa: F401
        from mmsdpt.registry import MODELS

        init_default_scope("mmdet")
        cfg = Config.fromfile(repository / "configs/mini/sdpt_mini_raccoon.py")
        return MODELS.build(cfg.model).eval()

    @pytest.mark.parametrize(
        "names", [("circle (M3)", "circle (M5)"), ("\u5706", "\u65b9"), ("cat", "Cat")]
    )
    def test_names_of_the_same_tokens_are_refused(self, detector, names):
        with pytest.raises(
            InputError, match=f"{names[0]!r}".replace("(", r"\(").replace(")", r"\)")
        ):
            detector.check_class_names(names, "the train dataset")

    def test_a_name_of_another_script_is_doubtful(self, detector):
        _, _, unknown = name_problems(["\u5706", "circle"], detector.read_class_name)
        assert len(unknown) == 1 and "no word that the model knows" in unknown[0]

    def test_a_caption_with_a_name_of_nothing_is_refused(self, detector):
        for names in (["circle", "(unknown)"], ["_"]):
            with pytest.raises(InputError, match="is empty to the model|nothing|plain words"):
                detector.get_tokens_positive_and_prompts(names, True)
