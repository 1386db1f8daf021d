"""Promises of the page that need gradio, and no browser."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmsdpt.utils.errors import InputError
from projects.web_demo.models import check_picture

ROOT = Path(__file__).parents[3]
pytest.importorskip("gradio", reason='needs pip install "mmsdpt[web]"')


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    from projects.web_demo import page

    folder = tmp_path_factory.mktemp("page")
    args = argparse.Namespace(
        tuners=[str(ROOT / "projects/web_demo/tuners")],
        config=str(ROOT / "configs/mini/sdpt_mini_thermal.py"),
        clip_config=str(ROOT / "configs/mini/mudpt_mini_clothing.py"),
        base=None,
        text_encoder=None,
        clip_base=None,
        device="cpu",
    )
    return page.build(args, folder), folder


def test_an_upload_reaches_the_model_as_it_is(built, tmp_path):
    """Gradio's own conversion makes 16-bit images white and refuses text files without a reason."""
    from gradio.data_classes import ImageData

    image = next(b for b in built[0].blocks.values() if getattr(b, "label", "") == "Image")
    deep, text = tmp_path / "deep.png", tmp_path / "text.png"
    Image.fromarray(np.arange(4000, 4900, dtype=np.uint16).reshape(30, 30)).save(deep)
    text.write_text("no picture")
    for path in (deep, text):
        payload = ImageData(path=str(path), orig_name=path.name)
        assert image.preprocess(payload) == str(path)
    assert image.preprocess(None) is None
    assert check_picture(str(deep)) == str(deep)
    with pytest.raises(InputError, match="^the image cannot be used: it is"):
        check_picture(str(text))


def test_pictures_are_removed_with_the_copies_that_gradio_shows(built):
    from gradio.route_utils import delete_files_created_by_app

    page, folder = built
    run, look = (
        next(f for f in page.fns.values() if f.targets[0][1] == "click" and len(f.inputs) == count)
        for count in (6, 5)
    )
    path = str(folder / "thermal_1.png")
    chosen = [["thermal.safetensors (SDPT)"], ["thermal"], ""]
    before, after, _ = run.fn(path, *chosen, 0.3, "")
    pictures = [before, after, look.fn(path, *chosen, "")]
    assert all(map(os.path.isfile, pictures))
    delete_files_created_by_app(page, None)
    assert not any(map(os.path.exists, pictures)) and os.path.isfile(path)


@pytest.mark.slow
def test_a_page_that_is_told_to_end_removes_its_folder(tmp_path):
    command = [sys.executable, "-m", "projects.web_demo", "--port", "0", "--device", "cpu"]
    environment = os.environ | {"TMPDIR": str(tmp_path), "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        [*command, "--tuners"], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
    )
    assert any("Running on" in line for line in process.stdout)
    assert list(tmp_path.glob("mmsdpt_web_*"))
    process.send_signal(signal.SIGTERM)
    process.wait(60)
    assert not list(tmp_path.glob("mmsdpt_web_*"))
