"""The tuner files of tests/apis."""

from tests.apis.conftest import (  # noqa: F401
    _short_beginnings,
    clip_cfg,
    make_tiny_cfg,
    squares,
    tiny_folder,
    tuned,
    tuned_clip,
)
