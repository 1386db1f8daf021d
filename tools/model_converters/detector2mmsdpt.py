"""Convert a detector's weights to MMDetection's names: ``detector2mmsdpt.py SOURCE
OUT.safetensors``.

SOURCE may be

  - a checkpoint of microsoft/GLIP, such as glip_tiny_model_o365_goldg.pth
  - a checkpoint of IDEA-Research's Grounding DINO, such as groundingdino_swint_ogc.pth
  - Hugging Face's GroundingDinoForObjectDetection or MMGroundingDinoForObjectDetection:
    model.safetensors, pytorch_model.bin, or their folder
  - a checkpoint with MMDetection's names, which is written as it is: safetensors can be read with
    any version of PyTorch, .pth files need 2.10 or later

OUT can be used in ``load_from``. The config must have the model's sizes.
"""

import argparse

from mmsdpt.utils.cli import run_tool, tool_parser


def parse_args() -> argparse.Namespace:
    parser = tool_parser(__doc__)
    parser.add_argument("source", help="file or Hugging Face folder to read")
    parser.add_argument("out", help="file to write, .safetensors")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    from mmsdpt.utils.detector_weights import convert_detector

    print(f"{args.out}: {convert_detector(args.source, args.out)}")


if __name__ == "__main__":
    run_tool(main)
