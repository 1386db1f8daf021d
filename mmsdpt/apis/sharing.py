"""Shared models: folders and hub repositories with tuner files, ``config.json`` and a card."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmsdpt.tuners.files import read_tuner_header
from mmsdpt.utils.atomic import staged, write_atomically
from mmsdpt.utils.errors import InputError, first_line, listed, printable

from .recipe import Recipe, section

CONFIG = "config.json"
CARD = "README.md"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")


def find_shared(name: str | Path, revision: str | None = None) -> Recipe:
    """The recipe of a shared model.

    Args:
        name: A folder, a tuner file, or an id on the Hugging Face hub, ``person/model``. Only
            ``config.json`` and the tuner files that it names are downloaded from a repository.
        revision: Branch, tag or commit on the hub.

    Raises:
        InputError: if there is no such model, or its config cannot be trusted.
    """
    folder = Path(name)
    if (folder / CONFIG).is_file():
        return Recipe.from_json(folder / CONFIG)
    if folder.is_dir():
        raise InputError(f"{folder} has no {CONFIG}: it was not written by save_pretrained")
    if folder.is_file() and folder.suffix == ".safetensors":
        return Recipe.from_files(str(name))
    if folder.is_file():
        what = "the checkpoint of a run" if folder.suffix == ".pth" else "not a tuner file"
        raise InputError(
            f"{printable(name)} is {what}: give the tuner file, which ends in .safetensors"
        )
    if not _HUB_ID.fullmatch(str(name)):
        raise InputError(
            f"{printable(name)} is neither a tuner file, nor a folder, nor an id on the Hugging"
            " Face hub (person/model)"
        )
    from huggingface_hub import hf_hub_download

    try:
        recipe = Recipe.from_json(Path(hf_hub_download(str(name), CONFIG, revision=revision)))
        for slot, path in recipe.files.items():
            recipe.files[slot] = hf_hub_download(str(name), Path(path).name, revision=revision)
    except _hub_errors() as error:  # no network, no such model or file
        if isinstance(error, InputError):
            raise
        reason = first_line(error)
        raise InputError(f"{name} could not be downloaded from the hub ({reason})") from None
    return recipe


def _hub_errors() -> tuple[type[BaseException], ...]:
    """Exceptions of huggingface_hub; the last one is from the HTTP library that it uses."""
    from huggingface_hub.utils import HfHubHTTPError

    return OSError, ValueError, *HfHubHTTPError.__bases__


def write_shared(recipe: Recipe, folder: str | Path, *, kind: str, **card: str | None) -> Path:
    """Write a folder that :func:`find_shared` reads.

    Args:
        folder: Where to write; an earlier shared model there is replaced.
        kind: Name of the class that loads it.
        card: ``licence``, ``data`` and ``command`` of
            :meth:`mmsdpt.apis.Detector.save_pretrained`.

    Raises:
        InputError: if there are no tuner files, the config is not plain values, or another file
            would be overwritten: a tuner file under another name, one in the folder of a run, or an
            unrelated config or README; or if tuner files of other slots would be left there.
    """
    if not recipe.files:
        raise InputError("nothing to share: the model has no tuner file")
    folder = Path(folder)
    earlier = _shared_files(folder)
    was_shared = earlier is not None
    if others := [name for name in (CONFIG, CARD) if (folder / name).exists()]:
        if not was_shared:
            raise InputError(
                f"{folder / others[0]} would be overwritten, but is not part of a shared model:"
                " choose another folder"
            )
    single = len(recipe.files) == 1
    names = {slot: f"{'tuner' if single else slot}.safetensors" for slot in recipe.files}
    if left := [x for x in earlier or () if x not in names.values() and (folder / x).exists()]:
        raise InputError(
            f"{folder} has a shared model with other slots, so {listed(map(printable, left))} would"
            " be left in it: choose another folder"
        )
    contents: dict[str, bytes] = {}
    for slot, path in recipe.files.items():
        target = folder / names[slot]
        contents[names[slot]] = Path(path).read_bytes()
        if not target.exists() or target.read_bytes() == contents[names[slot]]:
            continue
        if not was_shared or any(target.samefile(other) for other in recipe.files.values()):
            raise InputError(
                f"{target} would be overwritten by {path}, but is from another training: choose"
                " another folder"
            )
    shared = Recipe(**{**recipe.__dict__, "files": names})
    contents[CONFIG] = shared.to_json().encode()
    headers = {slot: read_tuner_header(path) for slot, path in recipe.files.items()}
    contents[CARD] = ("\n".join(_card(shared, headers, kind, **card)) + "\n").encode()
    with staged(folder, CONFIG) as stage:
        for name, content in contents.items():
            write_atomically(stage / name, content)
    return folder


def _shared_files(folder: Path) -> list[str] | None:
    """Names of the tuner files that any version of :func:`write_shared` wrote into a folder; None
    if it did not write the folder.
    """
    try:
        content = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        known = {"format", "tuners", "files"} <= content.keys()
        return list(map(str, content["files"].values())) if known else None
    except (OSError, ValueError, AttributeError):
        return None


def push(recipe: Recipe, name: str, private: bool, token: str | None, **card: Any) -> str:
    """Upload a model to the Hugging Face hub; see :func:`write_shared`.

    Returns:
        The URL of the commit.

    Raises:
        InputError: if the name is not an id, or the hub refuses it or cannot be reached.
    """
    if not _HUB_ID.fullmatch(name):
        raise InputError(f"an id on the hub must be person/model, got {printable(name)}")
    from huggingface_hub import HfApi

    api = HfApi(token=token)
    with tempfile.TemporaryDirectory() as folder:
        write_shared(recipe, folder, **card)
        try:
            api.create_repo(name, private=private, exist_ok=True)
            commit = api.upload_folder(
                repo_id=name, folder_path=folder, commit_message="Add a tuner of mmsdpt"
            )
        except _hub_errors() as error:
            raise InputError(
                f"the upload of {name} to the hub failed: {first_line(error)}"
            ) from None
    return str(commit.commit_url)


# ---------------------------------------------------------------------- the card


def _card(
    recipe: Recipe,
    headers: Mapping[str, Mapping[str, Any]],
    kind: str,
    licence: str | None = None,
    data: str | None = None,
    command: str | None = None,
) -> Iterator[str]:
    """Lines of the model card. Values from files are shown as code, on one line."""
    detects = kind == "Detector"
    methods = sorted({str(header.get("method")) for header in headers.values()})
    yield from (
        "---",
        "library_name: mmsdpt",
        f"pipeline_tag: {'zero-shot-object-detection' if detects else 'image-classification'}",
        f"license: {json.dumps(printable(licence or 'unknown'))}",  # as YAML has texts, too
        "tags: [mmsdpt, parameter-efficient-tuning]",
        "---",
        "",
        f"# {_word(', '.join(methods))} on {_word(recipe.model['type'].partition('.')[2])}",
        "",
        f"Tuned parameters for a frozen {'detector' if detects else 'classifier'}; the base weights"
        " are not in here.",
        "",
        "```python",
        f"from mmsdpt.apis import {kind}",
        "",
        f'model = {kind}.from_pretrained("FOLDER_OR_ID")',
        'result = model("photo.jpg")',
        'result.save("photo_with_result.png")',
        "```",
        "",
        "| | |",
        "|---|---|",
        f"| base weights | {_code(recipe.load_from)} |",
    )
    for slot, header in headers.items():
        extra = section(header, "extra")
        of = f" of `{slot}`" if len(headers) > 1 else ""
        yield f"| fingerprint of the base{of} | {_code(header.get('base'))} |"
        yield f"| method{of} | {_code(header.get('method'))} |"
        yield f"| settings{of} | {_code(header.get('config'))} |"
        if scores := extra.get("scores"):
            yield f"| scores in validation{of} | {_code(scores)} |"
        if "epoch" in extra:
            yield f"| epochs{of} | {_code(extra['epoch'])} |"
        yield f"| versions{of} | {_code(header.get('versions'))} |"
    yield f"| classes | {_code(', '.join(recipe.classes), 1000)} |"
    if recipe.templates:
        yield f"| template | {_code(', '.join(recipe.templates))} |"
    yield f"| data | {_word(data) if data else 'not said'} |"
    yield f"| command | {_code(command) if command else 'not said'} |"
    yield f"| licence | {_word(licence) if licence else 'not said'} |"


def _word(text: Any) -> str:
    """A text on one line without Markdown and YAML syntax."""
    return re.sub(r"[`|<>\[\]]", "", printable(text))


def _code(value: Any, most: int = 400) -> str:
    return f"`{re.sub('[`|]', '', printable(value, most))}`"
