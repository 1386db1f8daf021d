"""The kinds of garments: how they are drawn, what they are called, how often they occur."""

from __future__ import annotations

from collections.abc import Callable

from numpy.random import Generator

from .accessories import bag, bow_tie, glove, scarf
from .footwear import shoes, sock
from .headwear import beanie, brimmed_hat, cap
from .outlines import Layer
from .skirts import dress, skirt
from .tops import hoodie, longsleeve, outwear, polo, shirt, t_shirt, tank_top
from .trousers import pants, shorts

# Kind: (how to draw it, its names, how often). The first name is the one most often used.
GARMENTS: dict[str, tuple[Callable[[Generator], list[Layer]], tuple[str, ...], float]] = {
    "t-shirt": (t_shirt, ("t-shirt", "tee", "short-sleeved top"), 1.2),
    "tank top": (tank_top, ("tank top", "sleeveless top"), 0.3),
    "longsleeve": (longsleeve, ("longsleeve", "long-sleeved top", "sweater", "pullover"), 1.2),
    "hoodie": (hoodie, ("hoodie", "longsleeve", "hooded sweater"), 0.3),
    "shirt": (shirt, ("shirt", "button-up shirt", "blouse"), 1.2),
    "polo": (polo, ("polo shirt", "t-shirt"), 0.2),
    "outwear": (outwear, ("outwear", "jacket", "coat"), 1.3),
    "dress": (dress, ("dress", "gown"), 1.2),
    "pants": (pants, ("pants", "trousers", "jeans"), 1.1),
    "shorts": (shorts, ("shorts", "short pants"), 1.1),
    "skirt": (skirt, ("skirt",), 1.1),
    "cap": (cap, ("hat", "cap", "baseball cap"), 0.7),
    "beanie": (beanie, ("hat", "beanie", "knitted hat"), 0.5),
    "brimmed hat": (brimmed_hat, ("hat", "sun hat"), 0.25),
    "shoes": (shoes, ("shoes", "pair of shoes", "footwear"), 1.3),
    "sock": (sock, ("socks", "sock"), 0.15),
    "bag": (bag, ("bag", "handbag"), 0.2),
    "glove": (glove, ("glove",), 0.15),
    "scarf": (scarf, ("scarf",), 0.15),
    "bow tie": (bow_tie, ("bow tie",), 0.15),
}
