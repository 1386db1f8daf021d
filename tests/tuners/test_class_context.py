"""Where the learned context and the class names stand, on sentences that can be read."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import Tensor

from mmsdpt.hosts.clip.seams import TextInput, TextInputSeam, trim
from mmsdpt.tuners.layers.class_context import ClassContext

WORDS = ["[pad]", "[start]", "a", "photo", "of", "X", ".", "cat", "tabby", "dog", ",..", "[end]"]
CONTEXT = 12
NAMES = ("cat", "tabby cat")


def split(text: str) -> list[str]:
    """Words; a dot is one of its own, unless it joins the token ",.."."""
    text = text.replace(",...", " ,.. ") if ",..." in text else text.replace(".", " . ")
    return text.replace(", . . ", ",..").split()


def tokenize(texts) -> tuple[Tensor, Tensor]:
    ids = torch.zeros(len(texts), CONTEXT, dtype=torch.long)
    for row, text in zip(ids, texts, strict=True):
        found = [WORDS.index(word) for word in ("[start]", *split(text), "[end]")]
        if len(found) > CONTEXT:
            raise ValueError(f"{text} is too long")
        row[: len(found)] = torch.tensor(found)
    ends = ids.argmax(dim=-1)
    return trim(ids, ends), ends


def embed(ids: Tensor) -> Tensor:
    """A word is its number."""
    return ids[..., None].double()


def count(text: str) -> int:
    return len(split(text))


@pytest.fixture
def seam() -> TextInputSeam:
    return TextInputSeam(0, dict(width=1, context=CONTEXT), tokenize, embed, count)


def vectors(n: int, *shape: int, first: int = 1) -> Tensor:
    """Context vectors -1, -2, ..., which read as v1, v2, ..."""
    total = torch.Size((*shape, n)).numel()
    return -torch.arange(first, first + total).double().view(*shape, n, 1)


def read(texts: TextInput) -> list:
    """Texts in words, to each one's end."""
    if texts.prefix.dim() == 3:
        return [read(TextInput(prefix, texts.rest, texts.ends)) for prefix in texts.prefix]
    sentences, P = [], len(texts.prefix)
    for row, end in zip(texts.whole()[..., 0].tolist(), texts.ends.tolist(), strict=True):
        words = [WORDS[int(i)] if i >= 0 else f"v{-int(i)}" for i in row[: P + end + 1]]
        sentences.append(" ".join(words))
    return sentences


@pytest.mark.parametrize(
    ("position", "wanted"),
    [
        ("end", ["[start] v1 v2 v3 cat . [end]", "[start] v1 v2 v3 tabby cat . [end]"]),
        ("middle", ["[start] v1 cat v2 v3 . [end]", "[start] v1 tabby cat v2 v3 . [end]"]),
        ("front", ["[start] cat v1 v2 v3 . [end]", "[start] tabby cat v1 v2 v3 . [end]"]),
    ],
)
def test_the_class_name_stands_at_the_end_in_the_middle_or_in_front(seam, position, wanted):
    context = ClassContext(seam, 3, position=position)
    assert read(context(NAMES, vectors(3))) == wanted


@pytest.mark.parametrize("position", ["end", "middle", "front"])
def test_what_is_said_to_be_common_is_the_same_in_all_texts(seam, position):
    for words in (None, "a photo of a"):
        context = ClassContext(seam, 3, words, position)
        half = context.length // 2
        wanted = 1 + dict(end=context.length, middle=half, front=0)[position]
        for values, length in ((vectors(3), wanted), (vectors(3, 2), 0)):
            texts = context(("cat", "dog"), values)
            assert texts.prefix.shape == (length, 1)
            assert int(texts.ends.min()) >= 0
        values = vectors(3)  # and it is no name's own: each reads as it does alone
        alone = [read(context((name,), values))[0] for name in NAMES]
        assert read(context(NAMES, values)) == alone


def test_each_class_may_have_a_context_of_its_own(seam):
    context = ClassContext(seam, 2)
    wanted = ["[start] v1 v2 cat . [end]", "[start] v3 v4 tabby cat . [end]"]
    assert read(context(NAMES, vectors(2, 2))) == wanted
    context = ClassContext(seam, 2, position="front")
    wanted = ["[start] cat v1 v2 . [end]", "[start] tabby cat v3 v4 . [end]"]
    assert read(context(NAMES, vectors(2, 2))) == wanted


def test_each_image_may_have_a_context_of_its_own(seam):
    context = ClassContext(seam, 2)
    found = read(context(NAMES, vectors(2, 3), per_image=True))
    wanted = [
        read(context(NAMES, vectors(2, first=1))),
        read(context(NAMES, vectors(2, first=3))),
        read(context(NAMES, vectors(2, first=5))),
    ]
    assert found == wanted
    with pytest.raises(ValueError, match="contexts of images need position='end', got 'middle'"):
        ClassContext(seam, 2, position="middle")(NAMES, vectors(2, 3), per_image=True)


def test_words_beyond_the_context_stay_after_it(seam):
    context = ClassContext(seam, 2, "a photo of a")
    assert read(context(NAMES, vectors(2)))[0] == "[start] v1 v2 of a cat . [end]"
    assert context.fixed_words == "a photo of a"
    context = ClassContext(seam, 2, "a photo of a", position="middle")
    assert read(context(NAMES, vectors(2)))[0] == "[start] v1 v2 cat of a . [end]"
    assert ClassContext(seam, 4, "a photo of a").fixed_words == ""
    assert ClassContext(seam, 5, "a photo of a").fixed_words == ""


def test_words_beyond_the_context_may_be_left_out(seam):
    for position, wanted in (
        ("end", "v1 v2 cat ."),
        ("middle", "v1 cat v2 ."),
        ("front", "cat v1 v2 ."),
    ):
        context = ClassContext(seam, 2, "a photo of a", position, keep_words=False)
        assert read(context(NAMES, vectors(2)))[0] == f"[start] {wanted} [end]"
        assert context.fixed_words == "" and context.length == 2
    context.start(values := vectors(2))
    assert read(ClassContext(seam, 2)(NAMES, values))[0] == "[start] a photo cat . [end]"


def test_a_context_starts_from_its_words_and_the_rest_stays_as_drawn(seam):
    """The rest is never that of the end or of padding."""
    for n, wanted in ((2, "a photo"), (4, "a photo of a"), (6, "a photo of a v5 v6")):
        values = vectors(n)
        context = ClassContext(seam, n, "a photo of a")
        context.start(values)
        assert read(context(("cat",), values))[0].startswith(f"[start] {wanted} ")
    values = vectors(3)
    ClassContext(seam, 3).start(values)
    assert torch.equal(values, vectors(3))
    values = vectors(3, 2)
    ClassContext(seam, 3, "a photo").start(values)
    assert read(ClassContext(seam, 3)(NAMES, values)) == [
        "[start] a photo v3 cat . [end]",
        "[start] a photo v6 tabby cat . [end]",
    ]


def test_the_end_stays_where_it_is_when_a_dot_joins_the_names_tokens(seam):
    """CLIP's vocabulary has such tokens: ",.." are two, and ",..." is one."""
    name = "cat ,.."
    assert count(name) + 1 > count(f"{name}.") - 1  # no token is left for the dot
    context = ClassContext(seam, 1, position="front")
    assert read(context((name,), vectors(1)))[0].endswith("v1 [end]")


def test_the_order_is_found_again_for_other_names(seam):
    context = ClassContext(seam, 2, position="front")
    for names in (NAMES, ("dog",), ("tabby cat", "cat"), NAMES):
        wanted = [f"[start] {name} v1 v2 . [end]" for name in names]
        assert read(context(names, vectors(2))) == wanted
    assert read(pickle.loads(pickle.dumps(context))(("dog",), vectors(2)))
    assert read(copy.deepcopy(context)(("dog",), vectors(2)))


def test_gradients_reach_every_vector(seam):
    for position in ("end", "middle", "front"):
        values = vectors(3).requires_grad_()
        texts = ClassContext(seam, 3, position=position)(NAMES, values)
        texts.whole().sum().backward()
        assert torch.equal(values.grad, torch.full_like(values, len(NAMES)))


def test_a_context_that_leaves_no_room_is_refused(seam):
    ClassContext(seam, 8)
    with pytest.raises(ValueError, match="a context of 9 tokens leaves no room .* 12 tokens"):
        ClassContext(seam, 9)
    with pytest.raises(ValueError, match="position must be one of end, middle, front, got 'top'"):
        ClassContext(seam, 2, position="top")


def test_a_name_that_is_too_long_is_refused_by_name(seam):
    context = ClassContext(seam, 7)
    words = "the class name 'tabby cat dog' has 3 tokens, .* leaves room for 2: shorten"
    with pytest.raises(ValueError, match=words) as caught:
        context(("cat", "tabby cat dog"), vectors(7))
    assert "\n" not in str(caught.value)
