"""The image encoder's seams do what they say: against a block from its definition, in two phases,
recomputed, copied.
"""

import copy
import itertools
import pickle
from functools import partial

import pytest
import torch
import torch.nn.functional as F

from mmsdpt.hosts.grounding.swin import SwinTransformer
from mmsdpt.hosts.seams import PromptRows
from tests.hosts.small_swin import TINY, images, make
from tests.oracles.compare import assert_close, gradients


class StandIn:
    """A stand-in tuner with rows for blocks and a branch for FFNs; notes what its handlers meet."""

    def __init__(self, *seams, values=None, keep=False, scale=None):
        self.enabled, self.frozen = True, False
        self.rows, self.scale = values is not None and PromptRows(values, keep), scale
        self.met = []
        for seam in seams:
            handler = self.block if seam.kind == "image_blocks" else self.branch
            seam.connect(self, handler)

    def block(self, seam, run, x, rows, state):
        self.met.append((seam.index, state))
        return run(x, {self: self.rows, **rows})  # what was kept comes before a fresh one

    def branch(self, seam, x):
        self.met.append((seam.index, tuple(x.shape)))
        return self.scale * x.sin()


def seams_of(model, kind="image_blocks"):
    return model.seams()[kind]


def test_seams_give_the_widths_and_leave_the_state_dict_alone():
    model = SwinTransformer(**TINY)
    blocks, ffns = seams_of(model), seams_of(model, "image_ffns")
    assert [s.index for s in blocks] == [s.index for s in ffns] == [0, 1, 2, 3, 4]
    assert [s.widths for s in blocks] == [
        dict(width=8, heads=2, stage=0, depth=2, position=0),
        dict(width=8, heads=2, stage=0, depth=2, position=1),
        dict(width=16, heads=4, stage=1, depth=3, position=0),
        dict(width=16, heads=4, stage=1, depth=3, position=1),
        dict(width=16, heads=4, stage=1, depth=3, position=2),
    ]
    assert [tuple(s.widths.items()) for s in ffns] == [
        (("width", 8), ("stage", 0)),
        (("width", 8), ("stage", 0)),
        (("width", 16), ("stage", 1)),
        (("width", 16), ("stage", 1)),
        (("width", 16), ("stage", 1)),
    ]
    assert {s.kind for s in blocks} == {"image_blocks"} and {s.kind for s in ffns} == {"image_ffns"}
    assert not any("seam" in key for key in model.state_dict())
    assert seams_of(model)[0] is blocks[0]  # not new ones that nobody calls


def plain_block(block, x, hw, rows, branch=None):
    """A Swin block from its definition, window by window.

    Args:
        block: With MMDetection's submodules.
        x: (B, L, d).
        hw: Size of the map.
        rows: (values (B, p, d), keep) of each owner.
        branch: Beside the FFN.
    """
    attn, msa = block.attn, block.attn.w_msa
    w, s, heads, (H, W) = attn.window_size, attn.shift_size, msa.num_heads, hw
    Hp, Wp = -(-H // w) * w, -(-W // w) * w
    d = x.shape[-1]
    cells = list(itertools.product(range(w), range(w)))
    N = len(cells)
    entries = torch.tensor(
        [
            [(yi - yj + w - 1) * (2 * w - 1) + (xi - xj + w - 1) for yj, xj in cells]
            for yi, xi in cells
        ]
    )
    outs, row_outs = [], []
    for b in range(len(x)):
        normed = F.pad(block.norm1(x[b]).view(H, W, d), (0, 0, 0, Wp - W, 0, Hp - H))
        sample_rows = [block.norm1(values[b]) for values, _ in rows]
        queried = [r for r, (_, keep) in zip(sample_rows, rows, strict=True) if keep]
        after = torch.zeros(Hp, Wp, d, dtype=x.dtype)
        from_windows = []
        for top, left in itertools.product(range(0, Hp, w), range(0, Wp, w)):
            places = [((top + i + s) % Hp, (left + j + s) % Wp) for i, j in cells]
            content = torch.stack([normed[y, z] for y, z in places])
            # 0, 1, 2 by the slices in which Swin cuts the shifted map
            cut = lambda at, size: (at >= size - w) + (at >= size - s) if s else 0  # noqa: E731
            regions = [(cut(top + i, Hp), cut(left + j, Wp)) for i, j in cells]
            keys = torch.cat([content, *sample_rows])
            queries = torch.cat([content, *queried])
            hidden = torch.tensor([[-100.0 * (a != c) for c in regions] for a in regions])
            bias = torch.zeros(heads, len(queries), len(keys), dtype=x.dtype)
            bias[:, :N, :N] = msa.relative_position_bias_table[entries].permute(2, 0, 1) + hidden
            q = msa.qkv(queries)[:, :d].view(-1, heads, d // heads)
            k = msa.qkv(keys)[:, d : 2 * d].view(-1, heads, d // heads)
            v = msa.qkv(keys)[:, 2 * d :].view(-1, heads, d // heads)
            scores = torch.einsum("qhc,khc->hqk", q, k) * msa.scale + bias
            out = torch.einsum("hqk,khc->qhc", scores.softmax(-1), v).reshape(-1, d)
            for a, (y, z) in enumerate(places):
                after[y, z] = out[a]
            from_windows.append(out[N:])
        outs.append(after[:H, :W].reshape(-1, d))
        row_outs.append(torch.stack(from_windows).mean(0))
    kept = [values for values, keep in rows if keep]
    x = torch.cat([x, *kept], dim=1)
    x = x + msa.proj(torch.cat([torch.stack(outs), torch.stack(row_outs)], dim=1))
    first, second = block.ffn.layers[0][0], block.ffn.layers[1]
    out = x + second(F.gelu(first(block.norm2(x))))
    if branch is not None:
        out = out + branch(x)
    return out.split([H * W, *(values.shape[1] for values in kept)], dim=1)


def leaf(*shape):
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("position", [0, 1])  # without and with shift
@pytest.mark.parametrize("window", [3, 9])  # plain and fused attention
@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("keeps", [(False,), (True,), (False, True, True)])
def test_rows_act_in_every_window_as_in_the_plain_form(position, window, own, keeps):
    model = make({**TINY, "window_size": window, "out_indices": (0,)})
    block, hw, batch = model.stages[0].blocks[position], (7, 5), 2
    x = leaf(batch, 35, 8)
    # The first owner has rows of each sample's own, the others share theirs among the samples.
    values = [leaf(*([batch] if own and i == 0 else []), 2 + i, 8) for i in range(len(keeps))]
    rows = {f"owner {i}": PromptRows(values[i], keep=keep) for i, keep in enumerate(keeps)}
    out, kept = model._compute(0, position, hw, x, rows)
    expected = plain_block(
        block, x, hw, [(v.expand(batch, -1, -1), k) for v, k in zip(values, keeps, strict=True)]
    )
    assert list(kept) == [f"owner {i}" for i, keep in enumerate(keeps) if keep]
    assert all(row.keep for row in kept.values())
    found = (out, *(row.values for row in kept.values()))
    assert_close(found, expected)
    inputs = [x, *values, *block.parameters()]
    assert_close(gradients(found, inputs), gradients(expected, inputs))


def test_a_branch_sees_the_input_of_the_norm_and_is_added_to_the_residual():
    model = make({**TINY, "out_indices": (0,)})
    scale, x = leaf(8), leaf(2, 35, 8)
    tuner = StandIn(seams_of(model, "image_ffns")[1], scale=scale)
    prompt = leaf(2, 2, 8)
    out, kept = model._compute(0, 1, (7, 5), x, {"a": PromptRows(prompt, keep=True)})
    block = model.stages[0].blocks[1]
    expected = plain_block(block, x, (7, 5), [(prompt, True)], branch=lambda z: scale * z.sin())
    found = (out, kept["a"].values)
    assert_close(found, expected)
    assert_close(gradients(found, [x, scale, prompt]), gradients(expected, [x, scale, prompt]))
    assert tuner.met == [(1, (2, 37, 8))]


def test_kept_rows_travel_to_the_end_of_their_stage_and_no_further():
    model = make(TINY)
    blocks = seams_of(model)
    seen = []

    def note(seam, run, x, rows, state):
        seen.append({key: (tuple(row.values.shape), row.keep) for key, row in rows.items()})
        return run(x, rows)

    def start(seam, run, x, rows, state):
        width = seam.widths["width"]
        return run(
            x,
            {
                **rows,
                "kept": PromptRows(x.new_ones(2, width), keep=True),
                "gone": PromptRows(x.new_ones(3, width)),
            },
        )

    owner = StandIn()
    for seam in blocks:
        seam.connect(owner, note)
    blocks[0].connect(owner, start)
    blocks[3].connect(owner, start)
    model(images(3, 20, 24))
    assert seen == [
        {},
        {"kept": ((3, 2, 8), True)},
        {},
        {},
        {"kept": ((3, 2, 16), True)},
    ]


def test_two_tuners_give_rows_to_one_block_and_handlers_get_the_state():
    model = make(TINY)
    x = images(2, 20, 24)
    first = StandIn(seams_of(model)[1], values=leaf(2, 8))
    second = StandIn(seams_of(model)[1], values=leaf(2, 3, 8), keep=True)
    both = model(x)[0]
    state = first.met[0][1]
    assert state.images is x and second.met[0][1] is state
    shared, own = first.rows.values, second.rows.values
    joined = {"all": PromptRows(torch.cat([shared.expand(2, -1, -1), own], dim=1))}
    first.enabled = second.enabled = False
    seams_of(model)[1].connect(
        StandIn(), lambda seam, run, x, rows, state: run(x, {**rows, **joined})
    )
    assert_close([model(x)[0]], [both])


def test_handlers_that_are_switched_off_leave_the_output_bit_identical():
    model = make(TINY)
    x = images(2, 41, 30)
    before = model(x)
    tuner = StandIn(
        *seams_of(model), *seams_of(model, "image_ffns"), values=leaf(1, 1), scale=leaf(1)
    )
    tuner.enabled = False
    assert all(torch.equal(a, b) for a, b in zip(model(x), before, strict=True))
    assert not tuner.met


@pytest.mark.parametrize("shape", [(2, 7), (3, 2, 8), (8,)])
def test_rows_of_a_wrong_shape_are_refused(shape):
    model = make(TINY)
    StandIn(seams_of(model)[0], values=leaf(*shape))
    with pytest.raises(ValueError, match=r"rows of prompts have the shape .* takes \(p, 8\)"):
        model(images(2, 20, 24))


# ------------------------------------------------------------------ in two phases


@pytest.mark.parametrize("last", [0, 1, 2, 3])
def test_the_last_blocks_run_apart_give_the_same_maps(last):
    model = make(TINY)
    x = images(2, 41, 30)
    blocks = seams_of(model)
    values = leaf(2, 16)
    StandIn(*blocks[2:], values=values, keep=True)
    StandIn(seams_of(model, "image_ffns")[4], scale=leaf(16))
    expected = model(x)
    progress = model.begin(x, last=last)
    assert progress.hw == (6, 4) and progress.x.shape == (2, 24, 16) and len(progress.maps) == 1
    features, rows = progress.x, progress.rows
    for i in range(last):
        features, rows = model.run_block(progress, i)(features, rows)
    found = model.finish(progress, features)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert_close(gradients(found, [x, values]), gradients(expected, [x, values]))


# ------------------------------------------------------------------ recomputation and modes


def test_recomputation_gives_the_same_gradients_with_what_the_forward_pass_used():
    plain = make(TINY)
    again = SwinTransformer(**TINY, with_cp=True).double().eval()
    again.load_state_dict(plain.state_dict())
    x = images(2, 41, 30).detach()  # nothing before the first tuner takes a gradient
    values, scale, weight = leaf(2, 8), leaf(8), leaf(24, 8)
    found = []
    for model in (plain, again):
        model.requires_grad_(False)
        places = seams_of(model)[0], seams_of(model, "image_ffns")[1]
        tuner = StandIn(*places, values=values, scale=scale, keep=True)
        qkv = model.stages[0].blocks[1].attn.w_msa.qkv
        own = qkv._parameters["weight"]
        qkv._parameters["weight"] = own + weight
        outputs = model(x)
        qkv._parameters["weight"] = own
        tuner.enabled = False
        found.append((outputs, gradients(outputs, [values, scale, weight])))
    assert all(torch.equal(a, b) for a, b in zip(found[0][0], found[1][0], strict=True))
    assert all(g.abs().max() > 0 for g in found[0][1])
    assert_close(found[1][1], found[0][1])


def test_a_size_first_seen_in_inference_mode_trains_later():
    model = make(TINY)
    x = images(1, 41, 30)
    with torch.inference_mode():
        before = model(x.detach())
    outputs = model(x)
    assert_close(outputs, before)
    assert gradients(outputs, [x])[0].abs().max() > 0


def test_many_image_sizes_do_not_fill_the_memory():
    model = make(TINY)
    with torch.no_grad():
        for width in range(12, 84, 4):
            model(torch.zeros(1, 3, 16, width, dtype=torch.float64))
    assert len(model._layouts._values) <= 32


@pytest.mark.parametrize("window", [5, 9])
def test_autocast_to_bfloat16_stays_close_with_rows_and_branches(window):
    model = SwinTransformer(**{**TINY, "window_size": window}).eval()
    values, scale = torch.randn(2, 8, requires_grad=True), torch.ones(8, requires_grad=True)
    places = seams_of(model)[1], seams_of(model, "image_ffns")[0]
    StandIn(*places, values=values, scale=scale, keep=True)
    x = images(2, 41, 30, torch.float32)
    expected = model(x)
    with torch.autocast("cpu", torch.bfloat16):
        found = model(x)
    assert_close([f.float() for f in found], expected, relative=0.1)
    sum(f.float().square().sum() for f in found).backward()
    tensors = [x, values, scale, *model.parameters()]
    assert all(t.grad is not None and t.grad.isfinite().all() for t in tensors)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_compute_the_same_and_keep_their_own_seams(duplicate):
    model = make(TINY)
    x = images(1, 41, 30)
    expected = model(x)
    other = duplicate(model)
    assert all(torch.equal(a, b) for a, b in zip(other(x), expected, strict=True))
    tuner = StandIn(*seams_of(other, "image_ffns"), scale=leaf(1))
    assert not torch.equal(other(x)[1], expected[1])
    assert tuner.met
    assert all(torch.equal(a, b) for a, b in zip(model(x), expected, strict=True))


def test_the_blocks_of_the_last_stage_can_run_more_than_once():
    """As for methods with a query pass in front of the pass that counts."""
    model = make(TINY)
    progress = model.begin(images(2, 41, 30), last=1)
    run = model.run_block(progress, 0)
    assert isinstance(run, partial)
    first, _ = run(progress.x, {"q": PromptRows(leaf(2, 16), keep=True)})
    plain, rows = run(progress.x, progress.rows)
    again, _ = run(progress.x, progress.rows)
    assert torch.equal(plain, again) and rows == {}
    assert not torch.equal(first, plain)
