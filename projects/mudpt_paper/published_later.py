"""Published numbers for the studies of later methods: those of :mod:`published`, in one table."""

from .published import PUBLISHED as _ALL

_TABLES = [each for each in _ALL if each["protocol"] == "base_to_new"]
_BEFORE, _LATER = _TABLES

PUBLISHED = [
    *(each for each in _ALL if each["protocol"] != "base_to_new"),
    dict(
        _LATER,
        title="base to new, average over 11 data sets",
        source=f"{_BEFORE['source']} (zero-shot, independent V-L, MaPLe); {_LATER['source']}",
        values={
            **{name: _BEFORE["values"][name] for name in ("zero_shot", "independent_vl", "maple")},
            **_LATER["values"],
        },
        labels={**_BEFORE["labels"], **_LATER["labels"]},
    ),
]
