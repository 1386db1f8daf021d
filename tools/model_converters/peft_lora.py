"""LoRA or DoRA from a tuner file to the peft library's adapter, and back.

peft_lora.py export TUNER_FILE FOLDER
peft_lora.py import FOLDER CONFIG TUNER_FILE
"""

import argparse

from mmsdpt.utils.cli import load_config, run_tool


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
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
    read.set_defaults(run=read_adapter, launcher="none", work_dir=None, data_root=None)
    read.set_defaults(cfg_options=None)
    return parser.parse_args()


def write_adapter(args: argparse.Namespace) -> None:
    from mmsdpt.apis import load_model
    from mmsdpt.tuners.peft_layout import write_peft

    loaded = load_model([args.tuner_file], config=args.config, base=args.base, device="cpu")
    write_peft(loaded.model, args.folder, loaded.slots[0])
    print(f"{args.folder}: an adapter of the peft library")


def read_adapter(args: argparse.Namespace) -> None:
    cfg = load_config(args)
    from mmengine.registry import DefaultScope

    from mmsdpt.engine.state import model_facts
    from mmsdpt.hosts.base import build_on_base
    from mmsdpt.tuners.files import save_tuner
    from mmsdpt.tuners.peft_layout import read_peft
    from mmsdpt.utils.base_weights import resolve_checkpoint

    with DefaultScope.overwrite_default_scope(cfg.get("default_scope", "mmdet")):
        model = build_on_base(cfg.model, resolve_checkpoint(cfg.load_from))
    slot = next(iter(model.tuners), "default")
    read_peft(model, args.folder, slot)
    classes = list((cfg.get("metainfo") or {}).get("classes", ()))
    save_tuner(model, args.tuner_file, slot, dict(classes=classes), model_facts(cfg, model, None))
    print(f"{args.tuner_file}: {type(model.tuners[slot]).__name__} for {args.config}")


def main() -> None:
    args = parse_args()
    args.run(args)


if __name__ == "__main__":
    run_tool(main)
