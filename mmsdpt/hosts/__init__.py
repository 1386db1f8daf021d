"""Hosts: frozen vision-language models that publish seams for tuners and keep their toolbox's
parameter names.
"""

from . import glip

__all__ = ["glip"]
