"""Convert CLIP weights to MMPreTrain's names: ``clip2mmsdpt.py SOURCE OUT.safetensors``.

SOURCE may be

  - OpenAI's archive, such as ViT-B-16.pt (only its tensors are read, its code is not run)
  - a state dict with OpenAI's names, which open_clip's checkpoints have, too
  - a state dict of open_clip's models that keep the text tower under ``text.``
  - Hugging Face's CLIPModel: model.safetensors, pytorch_model.bin, or their folder, or open_clip's

OUT (.safetensors or .pth, float32) can be used in ``load_from``. Only models with a ViT as image
tower can be converted.

The config must fit the weights. Some settings cannot be read from the weights:

  - heads: width / 64 in both towers of OpenAI's models
  - activation: QuickGELU, act_cfg=dict(type="mmpretrain.QuickGELU") in the image tower's ffn;
    MMPreTrain's text tower always has it. Weights for GELU, as most of open_clip's own are, are
    refused. If neither an archive nor a config beside the weights names the activation, set it
    yourself: --activation quick_gelu
  - layer norms: eps 1e-5, norm_cfg=dict(type="LN", eps=1e-5); MMPreTrain's default is 1e-6
"""

import argparse

from mmsdpt.utils.cli import run_tool, tool_parser


def parse_args() -> argparse.Namespace:
    parser = tool_parser(__doc__)
    parser.add_argument("source", help="file or Hugging Face folder to read")
    parser.add_argument("out", help="file to write, .safetensors or .pth")
    parser.add_argument(
        "--activation",
        choices=["quick_gelu", "gelu"],
        help="activation of the model's MLPs, if the files do not name it",
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    from mmsdpt.utils.clip_weights import convert_file

    print(f"{args.out}: {convert_file(args.source, args.out, args.activation)}")


if __name__ == "__main__":
    run_tool(main)
