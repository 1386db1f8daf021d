"""Hosts: frozen vision-language models that publish seams for tuners and keep their toolbox's
parameter names.
"""

from . import clip, glip, grounding_dino

__all__ = ["clip", "glip", "grounding_dino"]
