"""Convert LoRA or DoRA between a tuner file and an adapter of the peft library.

peft_lora.py export TUNER_FILE FOLDER
peft_lora.py import FOLDER CONFIG TUNER_FILE
"""

import argparse
from typing import TYPE_CHECKING

from mmsdpt.utils.cli import load_config, run_tool, tool_parser
from mmsdpt.utils.errors import InputError

if TYPE_CHECKING:
    from mmengine.config import Config


def parse_args() -> argparse.Namespace:
    parser = tool_parser(__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    export = commands.add_parser("export", help="write an adapter")
    export.add_argument("tuner_file", help="tuner file (.safetensors) of LoRA or DoRA")
    export.add_argument("folder", help="where to write the adapter")
    export.add_argument("--config", help="config that the file was trained with")
    export.add_argument("--base", help="file of the base weights, if it is elsewhere now")
    export.set_defaults(run=write_adapter)
    read = commands.add_parser("import", help="write a tuner file")
    read.add_argument("folder", help="adapter_config.json and adapter_model.safetensors")
    read.add_argument("config", help="config of a model with the adapter's method, rank and alpha")
    read.add_argument("tuner_file", help="file to write (.safetensors)")
    read.set_defaults(run=read_adapter)
    return parser.parse_args()


def write_adapter(args: argparse.Namespace) -> None:
    from mmsdpt.apis import load_model
    from mmsdpt.tuners.peft_layout import write_peft

    loaded = load_model([args.tuner_file], config=args.config, base=args.base, device="cpu")
    write_peft(loaded.model, args.folder, loaded.slots[0])
    print(f"{args.folder}: an adapter of the peft library")


def read_adapter(args: argparse.Namespace) -> None:
    cfg = load_config(args)
    from types import SimpleNamespace

    from mmsdpt.apis.recipe import Recipe
    from mmsdpt.engine.state import model_facts
    from mmsdpt.hosts.base import resolve_slots
    from mmsdpt.tuners.files import save_tuner
    from mmsdpt.tuners.peft_layout import read_peft

    recipe = Recipe.of(cfg, None)
    recipe.tuners = resolve_slots(cfg.model.get("tuner"), cfg.model.get("tuners"))
    model = recipe.build()
    slot = next(iter(model.tuners), "default")
    read_peft(model, args.folder, slot)
    classes = recipe.classes or trained_classes(cfg)
    if recipe.templates:
        model.set_classes(classes, recipe.templates)
    facts = model_facts(cfg, model, SimpleNamespace(caption_prompt=recipe.captions))
    save_tuner(model, args.tuner_file, slot, dict(classes=classes), facts)
    print(f"{args.tuner_file}: {type(model.tuners[slot]).__name__} for {args.config}")
    if not classes:
        print("the classes are unknown because the data was not found: pass them to use the file")


def trained_classes(cfg: "Config") -> list[str]:
    """The classes of the training data; empty if the data is missing."""
    from mmengine.registry import DATASETS, DefaultScope

    from mmsdpt.utils.data_files import dataset_configs

    dataset = next(dataset_configs((cfg.get("train_dataloader") or {}).get("dataset")), None)
    try:
        with DefaultScope.overwrite_default_scope(cfg.get("default_scope", "mmdet")):
            return list(DATASETS.build(dataset).metainfo["classes"]) if dataset else []
    except (InputError, OSError):
        return []


def main() -> None:
    args = parse_args()
    args.run(args)


if __name__ == "__main__":
    run_tool(main)
