"""Packaging. Ranges are here, tested versions in requirements/constraints.txt."""

import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
URL = "https://github.com/mmsdpt/mmsdpt"
# What OpenMMLab's packages have in a folder .mim, where "mmsdpt::sdpt/..." and mim look for it.
MIM = ("configs", "tools", "model-index.yml")

# The same ranges as in mmsdpt/compat.py, which checks them at import (tests/test_packaging.py
# compares them). But PyTorch: older ones can be imported, and then read no .pth files.
REQUIRED = [
    "torch>=2.10",
    "torchvision>=0.25",
    "onedl-mmengine>=0.10.4,<0.11",
    "onedl-mmcv>=2.1,<2.4",
    "onedl-mmdetection>=3.3,<3.6",
    "onedl-mmpretrain>=1.2,<1.4",
    "tokenizers>=0.20",
    "pycocotools>=2.0.7",
    "lvis>=0.5.3",
    "safetensors>=0.4.3",
    "scikit-learn>=1.3",
    # Imported by mmsdpt itself, in any version that the packages above accept.
    "adjustText>=1.1",
    "filelock",
    "huggingface_hub",
    "jinja2",
    "matplotlib",
    "numpy",
    "opencv-python",
    "packaging",
    "pandas>=2.2",
    "pillow",
    "pyyaml",
    "rich",
    "scipy",
    "tabulate>=0.9",
    "tqdm",
]
EXTRAS = {
    # Studies in several processes or on several machines (docs/experiments.md).
    "experiments": ["ray>=2.40"],
    # COCO's average precision by compiled code.
    "fast-eval": ["faster-coco-eval>=1.6"],
    # Results of the Python API as supervision's detections.
    "supervision": ["supervision>=0.22"],
    # Tuned models as ONNX files (docs/use.md).
    "onnx": ["onnx>=1.16", "onnxruntime>=1.18"],
    # The page in the browser (projects/web_demo).
    "web": ["gradio>=6.17,<7", "starlette>=0.40"],
    # nbclient and what it needs: the notebooks. selenium: the page in a real browser.
    # open-clip-torch: another implementation of CLIP, to compare ours with.
    "tests": [
        "faster-coco-eval>=1.6",
        "hypothesis>=6.90",
        "ipykernel>=6.29",
        "nbclient>=0.10",
        "nbformat>=5.10",
        "open-clip-torch>=2.20",
        "peft>=0.11",
        "pytest>=7.4",
        "pytest-xdist>=3.5",
        "selenium>=4.20",
        "tensorboard>=2.14",
        # Other implementations of BERT, CLIP and Grounding DINO, to compare ours with.
        "transformers>=4.46",
    ],
    "lint": ["mypy>=1.8", "pre-commit>=3.5", "pre-commit-hooks>=4.5", "ruff>=0.6"],
}


def read_version() -> str:
    """The version, without importing the package (its requirements are not there yet)."""
    text = (ROOT / "mmsdpt" / "version.py").read_text(encoding="utf-8")
    found = re.search(r'^__version__ = "([^"]+)"$', text, flags=re.MULTILINE)
    if found is None:
        raise RuntimeError('mmsdpt/version.py has no line like __version__ = "1.2.3"')
    return found.group(1)


class BuildWithMim(build_py):
    """Adds configs and tools: copies in a wheel, links where the checkout itself is installed."""

    def run(self) -> None:
        super().run()
        links = self.editable_mode
        folder = Path(ROOT if links else self.build_lib, "mmsdpt", ".mim")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for name in MIM:
            if links:
                (folder / name).symlink_to(Path("..", "..", name))
            elif (ROOT / name).is_dir():
                ignored = shutil.ignore_patterns("__pycache__")
                shutil.copytree(ROOT / name, folder / name, ignore=ignored)
            else:
                shutil.copy(ROOT / name, folder / name)


setup(
    name="mmsdpt",
    version=read_version(),
    description="Parameter-efficient tuning of GLIP, Grounding DINO and CLIP on OpenMMLab",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    author="The mmsdpt authors",
    url=URL,
    project_urls={
        "Documentation": f"{URL}/tree/main/docs",
        "Changelog": f"{URL}/blob/main/CHANGELOG.md",
        "Issues": f"{URL}/issues",
    },
    keywords="vision-language prompt-tuning parameter-efficient GLIP CLIP OpenMMLab",
    cmdclass={"build_py": BuildWithMim},
    python_requires=">=3.10,<3.13",
    # A path for an editable installation: it is then found beside a folder called mmsdpt, too.
    package_dir={"": "."},
    packages=find_packages(include=["mmsdpt", "mmsdpt.*"]),
    package_data={"mmsdpt": ["assets/**", "datasets/*.yaml"]},
    include_package_data=False,
    install_requires=REQUIRED,
    extras_require=EXTRAS,
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Operating System :: OS Independent",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: Scientific/Engineering :: Image Recognition",
    ],
    zip_safe=False,
)
