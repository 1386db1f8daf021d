"""Check a folder of your own data: COCO, VOC, YOLO or class folders."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from xml.parsers import expat

from mmsdpt.utils.class_names import as_read, name_problems
from mmsdpt.utils.errors import InputError, listed, printable
from mmsdpt.utils.texts import no_folder

from .coco_checks import NO_SCORE, NOTHING_TO_TRAIN_ON, CocoReport, check_coco
from .converters import convert_voc, convert_yolo
from .converters.coco_export import coco_files, file_split, image_folder, is_coco
from .converters.files import LabelRefused, read_label, scan
from .converters.report import ConversionReport
from .converters.voc_xml import parse_xml
from .converters.yolo_folders import find_data_file
from .image_files import IMAGE_SUFFIXES

_EVERY_IMAGE = 10**9


@dataclass
class FolderFinding:
    """The result of checking one dataset in a folder.

    Args:
        title: Its format and place.
        facts: Lines about its content.
        problems: Sentences; empty if there are none.
        notes: Problems that a run corrects automatically.
    """

    title: str
    facts: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def text(self) -> str:
        """The finding as lines."""
        lines = [self.title, *(f"  {fact}" for fact in self.facts)]
        lines += [f"  WRONG: {problem}" for problem in self.problems]
        lines += [f"  note: {note}" for note in self.notes]
        lines += [] if self.problems else ["  OK"]
        # Without control characters from files.
        return "\n".join(printable(line, None) for line in "\n".join(lines).split("\n"))


def examine_folder(folder: str | Path) -> list[FolderFinding]:
    """Find datasets of the known formats in a folder, and check each.

    Raises:
        InputError: if the folder is missing, or has none.
    """
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise InputError(f"{folder} {no_folder(folder)}")
    root = root.resolve()
    found = list(_examine(root))
    if not found:
        raise InputError(
            f"{folder} has no data in a known format: COCO (JSON with images), VOC (XML), YOLO"
            " (data.yaml, obj.data or classes.txt) or one folder of images per class"
        )
    return found


def _examine(root: Path) -> Iterator[FolderFinding]:
    unused = ConversionReport(root, "coco")
    files = coco_files(root, unused)
    if any(map(is_coco, files)):
        yield from _coco(root, files, unused)
        return
    xmls, texts = (scan(root, root, {suffix}, unused) for suffix in (".xml", ".txt"))
    source = _yolo_source(root)
    if source is not None and (not xmls or len(xmls) < len(texts)):
        finding = _converted(source, "YOLO", convert_yolo)
        if xmls:
            names = listed(map(unused.name, xmls), 3)
            finding.notes.append(f"not used, fewer XML than text files: {names}")
        yield finding
    elif any(map(_may_be_voc, xmls)):
        yield _converted(root, "VOC", convert_voc)
    elif files:  # none can be read
        yield from _coco(root, files, unused)
    elif scan(root, root, IMAGE_SUFFIXES, unused):
        finding = _classes(root, unused)
        if xmls:
            names = listed(map(unused.name, xmls), 3)
            finding.notes.append(f"not used, XML that is not VOC's: {names}")
        yield finding
    elif packed := _compressed(unused):
        told = f"compressed, not used; unpack {packed}"
        yield FolderFinding(f"COCO: {root}", problems=[told])


def _compressed(unused: ConversionReport) -> str:
    """The compressed JSON files that are not used, listed; empty if there are none."""
    return listed(where for where, _ in unused.named.get("label_compressed", ()))


def _may_be_voc(xml: Path) -> bool:
    """Whether an XML file has annotations, perhaps as CVAT's own format, or cannot be read."""
    try:
        return parse_xml(read_label(xml)).tag in ("annotation", "annotations")
    except (LabelRefused, expat.ExpatError):
        return True


def _yolo_source(root: Path) -> Path | None:
    try:
        return find_data_file(root)
    except InputError:
        return None


def _coco(root: Path, files: list[Path], unused: ConversionReport) -> Iterator[FolderFinding]:
    reports = [check_coco(path, image_folder(path, root), _EVERY_IMAGE) for path in files]
    trained = [each for each in reports if file_split(each.path, root) == "train"]
    names = {tuple(report.names) for report in reports if not report.errors}
    for report in reports:
        split = file_split(report.path, root)
        finding = FolderFinding(f"COCO, {split or 'no split'}: {report.path}")
        finding.problems += report.sentences("errors")
        if not report.errors:
            _add_names(finding, report, split)
            if split in ("val", "test"):
                if both := report.images_also_in(trained):
                    finding.problems.append(
                        f"{len(both)} of its images are also in train ({both[0].name}, ...)"
                    )
            if len({frozenset(each) for each in names}) > 1:
                finding.notes.append("the files do not have the same categories")
        finding.notes += [f"corrected in a run: {text}" for text in report.sentences("filled")]
        finding.problems += [f"left out in a run: {text}" for text in report.sentences("left_out")]
        finding.problems += report.sentences("doubtful")
        if report is reports[-1]:
            others = (f"{where}: {what}" for where, what in unused.named.get("other_task", ()))
            told = listed(others, 3, "; ")
            finding.notes += [f"not used: {told}"] * bool(told)
            packed = _compressed(unused)
            finding.problems += [f"compressed, not used; unpack {packed}"] * bool(packed)
        yield finding


def _add_names(finding: FolderFinding, report: CocoReport, split: str | None) -> None:
    boxes = ", ".join(f"{name} {report.boxes[name]}" for name in report.names)
    finding.facts.append(f"{len(report.content['images'])} images; boxes: {boxes or 'none'}")
    wrong, same, unknown = name_problems(report.names)
    finding.problems += wrong + same
    finding.notes += unknown
    unread = [name for name in report.names if not as_read(name).known]
    if len(unread) > 1:
        finding.problems.append(
            f"{unread[0]!r} and {unread[1]!r} are the same text to GLIP, whose English vocabulary"
            " knows neither: give each class an English name (--rename)"
        )
    if report.boxes:
        return
    if split == "train":
        finding.problems.append(NOTHING_TO_TRAIN_ON)
    else:
        finding.notes.append(NO_SCORE)


def _converted(source: Path, kind: str, convert) -> FolderFinding:
    finding = FolderFinding(f"{kind}: {source}")
    try:
        report = convert(source, None, progress=False)
    except InputError as error:
        finding.problems.append(str(error))
        return finding
    finding.facts += report.table().split("\n")
    if report.problems:
        finding.problems.append(
            f"{report.problems} problem{'s' * (report.problems > 1)}, listed above"
        )
    return finding


def _classes(root: Path, unused: ConversionReport) -> FolderFinding:
    from .classification.class_folders import ClassFolders

    finding = FolderFinding(f"class folders: {root}")

    class Examined(ClassFolders):
        """Class folders whose log messages go into the finding."""

        def say(self, sentence: str, level: int = logging.INFO) -> None:
            lines = finding.problems if level >= logging.WARNING else finding.facts
            lines.append(sentence)

    source = Examined(root)
    try:
        for split in ("train", "val", "test"):
            finding.facts.append(f"{split}: {len(source.items(split))} images")
    except InputError as error:
        # The images may have boxes from a tool instead of classes.
        others = unused.named.get("other_task", ())
        known = [f"{where} is {what}" for where, what in others if not what.startswith("a JSON")]
        finding.problems += [*known[:1], str(error)]
    if packed := _compressed(unused):
        finding.notes.append(f"compressed, not used; unpack it if it has boxes: {packed}")
    return finding
