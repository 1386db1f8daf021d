"""Studies and records made by hand; nothing is trained."""

from __future__ import annotations

from pathlib import Path

from mmsdpt.experiments.frame import to_frame
from mmsdpt.experiments.records import Record
from mmsdpt.experiments.study import Data, Host, Method, Study

CONFIG = Path(__file__).with_name("any_method.py")
COUNTS = dict(coop=2048, mudpt=78080, adapter=134656)
LABELS = dict(coop="CoOp", mudpt="MuDPT", adapter="Adapter")


def make_study(protocol, data=("cats", "dogs"), methods=("coop", "mudpt"), **kwargs):
    """A study of one model."""
    made = {"zero_shot": Method("zero_shot", "Zero-shot")}
    made |= {name: Method(name, LABELS[name], CONFIG) for name in methods}
    settings = dict(name="study", runtime=CONFIG, seeds=(1, 2, 3), path=Path("study.py"))
    return Study(
        protocol=protocol,
        hosts={"mini": Host("mini", CONFIG)},
        methods=made,
        data={name: Data(name, CONFIG) for name in data},
        **{**settings, **kwargs},
    )


def unknown(cell, **known):
    """A record of which nothing else is known."""
    return dict.fromkeys(Record.__annotations__) | dict(cell=cell, **known)


def make_records(study, metrics):
    """A record of each cell; ``metrics(cell)`` gives a dict, a text (the cell failed) or None (it
    has no record).
    """
    plain = {}
    found = []
    for cell in study.cells():
        result, training = metrics(cell), cell.training
        if result is None:
            continue
        trains = training.data is not None
        record = dict.fromkeys(Record.__annotations__)
        record.update(
            study=study.name,
            protocol=study.protocol,
            cell=cell.name,
            host=training.host,
            method=training.method,
            label=study.methods[training.method].label,
            trained_on=training.data,
            trained_classes=training.classes if trains else None,
            shots=training.shots,
            seed=training.seed,
            settings=dict(training.settings),
            on_top_of=training.on.method if training.on else None,
            tested_on=cell.data,
            tested_classes=cell.classes,
            slots_on=list(cell.slots),
            metrics={} if isinstance(result, str) else result,
            before=plain.get((cell.data, cell.classes)),
            trainable=COUNTS[training.method] if trains else 0,
            base_parameters=1_000_000,
            epochs=10 if trains else None,
            train_seconds=50.0 + (training.seed or 0) if trains else None,
            train_cpu_seconds=40.0 if trains else None,
            peak_memory_bytes=1_228_000_000,
            tuner_bytes=36_740 if trains else None,
            versions=dict(mmsdpt="0.2.0", torch="2.14"),
            digest="1",
            status="failed" if isinstance(result, str) else "finished",
            error=result if isinstance(result, str) else None,
            time=0.0,
        )
        if not trains:
            plain[cell.data, cell.classes] = record["metrics"]
        found.append(record)
    return found


def make_frame(study, metrics):
    """The table of these records."""
    return to_frame(make_records(study, metrics))
