"""The page itself: two tabs of the same build, one for boxes and one for classes."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # before the import, which reads it

import gradio as gr  # noqa: E402
from starlette.middleware import Middleware  # noqa: E402
from starlette.types import ASGIApp, Message, Receive, Scope, Send  # noqa: E402

from mmsdpt.apis import Classifier, Detector  # noqa: E402

from .models import Workbench, draw_examples, in_one_sentence  # noqa: E402

MOST_UPLOAD = "20mb"
_QUEUE = 16
_KEEP = 3600  # seconds that uploads and pictures are kept
# Scripts and styles of the page itself; nothing is fetched from or sent to anywhere else.
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:;"
    " style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:;"
    " connect-src 'self' data: blob: ws:; worker-src 'self' blob:"
)
_ABOUT = {
    Detector: (
        "Choose a picture, say what to look for, and see what the model finds with its tuners"
        " switched off (before) and on (after)."
    ),
    Classifier: (
        "Choose a picture and a list of words: CLIP says which word fits best, with its tuners"
        " switched off (before) and on (after)."
    ),
}


class StayHome:
    """Tells the browser to talk to this page alone."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"].append((b"content-security-policy", _POLICY.encode()))
            await send(message)

        await self.app(scope, receive, with_policy if scope["type"] == "http" else send)


def _tab(bench: Workbench, examples: list[str], words: str, folder: Path) -> None:
    """Everything that one kind of model has on the page."""
    detects = bench.kind is Detector
    gr.Markdown(_ABOUT[bench.kind])
    with gr.Row():
        with gr.Column(scale=1, min_width=300):
            image = gr.Image(
                value=examples[0], type="filepath", sources=["upload"], label="Image", height=280
            )
            # The file as it is: gradio would make white of 16 bits, and says nothing of a text.
            image.preprocess = lambda payload: payload and payload.path
            gr.Markdown("Drawn examples")
            drawn = gr.Gallery(
                examples,
                show_label=False,
                columns=3,
                height=240,
                allow_preview=False,
                buttons=[],
                container=False,
            )
            files = gr.Dropdown(bench.files(), value=bench.files()[:1], multiselect=True,
                                label="Tuner files (none: the base model)")  # fmt: skip
            slots = Workbench.slots(bench.files()[:1])
            on = gr.CheckboxGroup(slots, value=slots, label="Switched on")
            classes = gr.Textbox(
                words,
                label="Classes",
                info="Separate with commas. Empty: those that the model was tuned for.",
            )
            template = gr.Textbox(
                "",
                label="Template",
                info='A sentence with {} for the word, such as "a photo of a {}."',
                visible=not detects,
            )
            threshold = gr.Slider(
                0, 1, 0.3, step=0.01, label="Smallest score that is shown", visible=detects
            )
            with gr.Row():
                run = gr.Button("Find" if detects else "Classify", variant="primary")
                look = gr.Button("Where it looks")
        with gr.Column(scale=2, min_width=300):
            with gr.Row():
                before = gr.Image(label="Before", interactive=False, buttons=["download"])
                after = gr.Image(label="After", interactive=False, buttons=["download"])
            table = gr.Dataframe(
                headers=["tuners", "name", "score", *(["box (x1, y1, x2, y2)"] if detects else [])],
                label="Scores",
                interactive=False,
                max_height=300,
            )
            attention = gr.Image(label="Attention", interactive=False, buttons=["download"])

    def switches(chosen: list[str]) -> Any:
        names = Workbench.slots(chosen)
        return gr.CheckboxGroup(choices=names, value=names)

    # What gradio removes after _KEEP; of pictures, it shows copies.
    def predict(*args: Any) -> Any:
        shown = bench.predict(*args, folder)
        before.temp_files.update(shown[:2])
        return shown

    def show(*args: Any) -> Any:
        picture = bench.attention(*args, folder)
        attention.temp_files.add(picture)
        return picture

    def choose(event: gr.SelectData) -> str:
        return examples[event.index]

    inputs = [image, files, on, classes]
    both = [*inputs, threshold, template]
    one_at_a_time = dict(concurrency_limit=1, concurrency_id="model", api_visibility="private")
    drawn.select(choose, None, image, queue=False, api_visibility="private")
    files.change(switches, files, on, queue=False, api_visibility="private")
    shown = [before, after, table]
    run.click(in_one_sentence(predict, gr.Error), both, shown, **one_at_a_time)
    threshold.release(in_one_sentence(predict, gr.Error), both, shown, **one_at_a_time)
    on.input(in_one_sentence(predict, gr.Error), both, shown, **one_at_a_time)
    look.click(in_one_sentence(show, gr.Error), [*inputs, template], attention, **one_at_a_time)


def build(args: argparse.Namespace, folder: Path) -> gr.Blocks:
    """The page, with its pictures in a folder."""
    scenes, garments = draw_examples(folder)
    detector = Workbench(
        Detector, args.tuners, args.config, base=args.base,
        text_encoder=args.text_encoder, device=args.device,
    )  # fmt: skip
    classifier = Workbench(
        Classifier, args.tuners, args.clip_config, base=args.clip_base, device=args.device
    )
    with gr.Blocks(title="mmsdpt", analytics_enabled=False, delete_cache=(_KEEP, _KEEP)) as page:
        gr.Markdown("# mmsdpt: a frozen model, before and after tuning")
        with gr.Tab("Find objects (GLIP)"):
            words = "" if detector.files() else "red circle, blue star"
            _tab(detector, scenes, words, folder)
        with gr.Tab("Classify (CLIP)"):
            words = "" if classifier.files() else "bag, glove, hoodie, t-shirt, hat, shoes, dress"
            _tab(classifier, garments, words, folder)
    return page.queue(max_size=_QUEUE, api_open=False)


def serve(args: argparse.Namespace) -> None:
    """Show the page until it is interrupted; its folder is removed then."""
    folder = Path(tempfile.mkdtemp(prefix="mmsdpt_web_"))
    os.environ["GRADIO_TEMP_DIR"] = str(folder / "uploads")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # through the end of this function
    try:
        build(args, folder).launch(
            server_name=args.host,
            server_port=args.port,
            share=False,
            inbrowser=False,
            ssr_mode=False,
            max_file_size=MOST_UPLOAD,
            allowed_paths=[str(folder)],
            footer_links=[],
            theme=gr.themes.Soft(font=["system-ui", "sans-serif"], font_mono=["monospace"]),
            app_kwargs=dict(middleware=[Middleware(StayHome)]),
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
