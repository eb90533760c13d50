"""Numbers in one path that may be steps, epochs or tokens, with a label or without."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from analyze.checkpoints.layouts.table import ENDINGS
from analyze.checkpoints.naming.numerals import (
    NUMERAL,
    PLAIN,
    UNDERSCORED,
    UNIT,
    WHOLE_WORD,
    ascii_digits,
    value_of,
)
from analyze.checkpoints.naming.stamps import find_stamps

CHECKPOINT_N = "name checkpoint-N"
LAST_INTEGER_RULE = "name, last integer"
FOLDER_RULE = "name, folder N"
FAIRSEQ_RULE = "name checkpoint_EPOCH_N"
A_NAME = " may be a name"
BLANK = "\0"  # in place of what was read; no path holds it
ENDING = re.compile(f"(?:{'|'.join(map(re.escape, ENDINGS))})$", re.IGNORECASE)

_GROUPS = r"[1-9][0-9]{0,2}(?:_[0-9]{3})+"
_SURE_GROUPS = r"[1-9][0-9]{0,2}(?:(?:_[0-9]{3}){2,}|_000)(?![0-9A-Za-z])(?!_[0-9])"
_START = r"(?:(?<![A-Za-z])|(?<=[a-z])(?=[A-Z]))"
_STEPS = r"(?:(?:global|train(?:ing)?|optim(?:izer)?)[_-]?)?steps?|iter(?:ation)?s?|it|updates?"
_WORD = rf"(?P<word>(?i:{_STEPS}|epochs?|ep)|(?<=[0-9][-_])ba)"
_SEPARATOR = r"(?:__|==|[=_\-.:# ])?"
LABEL_BEFORE = re.compile(rf"{_START}{_WORD}{_SEPARATOR}$")
LABELLED = re.compile(
    rf"{_START}{_WORD}{_SEPARATOR}(?P<sign>-?)(?P<number>{NUMERAL})(?P<unit>{UNIT}?)"
)
# 10k_steps, 100step: not the 3 of epoch_3_step_100.
BEFORE_WORD = re.compile(
    rf"(?<![0-9A-Za-z.])(?<![0-9]_)(?P<sign>)(?P<number>{_GROUPS}|{NUMERAL})(?P<unit>[kKmMB]?)"
    rf"(?P<word>(?i:[_\- ]?(?:steps|iters|iterations|updates|epochs)|step|iter|epoch))"
    rf"(?![A-Za-z])(?!{_SEPARATOR}[0-9])"
)
CHECKPOINT = re.compile(
    rf"(?<![A-Za-z])(?P<word>)(?i:checkpoint|ckpt|chkpt)s?[=_\-.:]?"
    rf"(?P<sign>-?)(?P<number>{NUMERAL})(?P<unit>{UNIT}?)"
)
UNLABELLED = re.compile(rf"(?<![0-9])(?<![0-9][.,])({_SURE_GROUPS}|{NUMERAL})({UNIT}?)")
# Words to which the number of a step may be joined; resnet18 and vgg16 are other words.
COUNTED = re.compile(r"(?i:model|checkpoint|ckpt|weights?|params?|snapshot|saved?|policy|agent)$")
FAIRSEQ = re.compile(r"^checkpoint_([0-9]+)_([0-9]+)(?![0-9A-Za-z])", re.IGNORECASE)
TOKENS = (
    re.compile(rf"tokens?[=_-]?({NUMERAL})([KMBT]?)(?![A-Za-z])", re.IGNORECASE),
    re.compile(rf"(?<![0-9A-Za-z.])({NUMERAL})([KMBT])(?:T|[_-]?tok(?:en)?s?)(?![A-Za-z])",
               re.IGNORECASE),
)  # fmt: skip
_SIGNED = rf"[=_\-:@ ]?-?{NUMERAL}(?:[eE][-+]?[0-9]+)?"
_METRICS = (
    "loss|acc|accuracy|top[15]|f1|auc|auroc|m?ap|m?iou|dice|bleu|rouge|ppl|perplexity|psnr|ssim|fid"
    "|mse|mae|rmse|wer|cer|rewards?|return|score|metric"
)
_SETTINGS = (
    "lr|wd|weight_decay|bs|batch(?:[_-]?size)?|seed|k?fold|split|cv|trial|rank|gpu|node|v|ver"
    "|version|patch|img|size|dim|width|depth|layers?|heads?|hidden|gamma|beta|alpha|tau|dropout"
    "|momentum|run|exp|job|task|noise|stage|phase|part|shard|worker"
)
# What has a number and is neither a step nor an epoch.
OTHERS = (
    re.compile(rf"(?<![A-Za-z])(?i:(?:val|train|test)?(?:{_METRICS}))(?:@?[0-9](?=[=_-]))?"
               rf"(?:[_-](?i:step|epoch))?{_SIGNED}"),
    re.compile(rf"(?<![A-Za-z])(?i:{_SETTINGS}){_SIGNED}"),
    re.compile(rf"(?<![A-Za-z])(?i:max|num|n|total|warmup|every|per)[_-]?(?i:train[_-]?)?"
               rf"(?i:steps?|epochs?|iters?|iterations?|updates?){_SIGNED}"),
    re.compile(r"(?<![0-9A-Za-z])[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}(?![0-9A-Za-z])"),
    re.compile(r"(?<![0-9A-Za-z])(?=[0-9]*[a-f])(?=[a-f]*[0-9])[0-9a-f]{7,}(?![0-9A-Za-z])"),
)  # fmt: skip
OF_TOTAL = re.compile(
    rf"(?<![0-9])(?<![0-9][.,_])((?:{_GROUPS}|{NUMERAL})[kKmMB]?)([_-]?(?i:of)[_-]?[0-9]+)"
)


@dataclass(frozen=True)
class Number:
    """One number of a path that may be a step or an epoch."""

    place: tuple[object, ...]  # the same in all names of a series
    rule: str
    value: float | None  # None where ``doubt`` says why it is not sure
    text: str  # as written
    doubt: str = ""
    grouped: float | None = None  # the value if underscores group thousands; None if they cannot
    sure: bool = False  # whether underscores must group thousands: ``1_000_000``
    followed: bool = False  # whether an underscore and another number follow
    folder: bool = False  # whether it stands in the name of a folder


@dataclass
class PathNumbers:
    """All numbers of a path, before it is compared with the others of its series."""

    steps: list[Number] = field(default_factory=list)
    epochs: list[Number] = field(default_factory=list)
    checkpoints: list[Number] = field(default_factory=list)  # after the word checkpoint
    integers: list[Number] = field(default_factory=list)  # without a label
    shape: str = ""  # the file's name with # for each number
    tokens: float | None = None
    time: float | None = None


def numbers_in(path: str) -> PathNumbers:
    """All numbers of a path; nothing is decided where it can be read in two ways."""
    result = PathNumbers()
    parts = [ENDING.sub("", part) for part in PurePosixPath(ascii_digits(path)).parts]
    text = "/".join(parts)
    spans, result.time = find_stamps(text, lambda before: bool(LABEL_BEFORE.search(before)))
    for start, stop in spans:
        text = _blanked(text, start, stop)
    parts = text.split("/")
    for depth, part in enumerate(reversed(parts)):
        _read_part(part, depth, result)
    return result


def progress_spans(part: str) -> list[tuple[int, int]]:
    """Spans of numbers in one part of a path that are labelled as steps, epochs or tokens."""
    text, spans = ascii_digits(part), []
    for pattern in TOKENS:
        spans += [match.span(1) for match in pattern.finditer(ENDING.sub("", text))]
    text = _without_others(text)
    for pattern in (LABELLED, BEFORE_WORD, CHECKPOINT):
        for match in pattern.finditer(text):
            start, stop = match.start("number"), match.end("unit")
            groups = UNDERSCORED.match(text, start)
            spans.append((start, stop if groups is None else groups.end()))
    spans += [match.span(2) for match in FAIRSEQ.finditer(text)]
    return spans


def metric_spans(part: str) -> list[tuple[int, int]]:
    """Spans of losses, accuracies and alike in one part of a path."""
    return [m.span() for m in OTHERS[0].finditer(ENDING.sub("", ascii_digits(part)))]


def _read_part(part: str, depth: int, result: PathNumbers) -> None:
    """Add the numbers of a folder or, at depth 0, of the file."""
    for pattern in TOKENS:
        if match := pattern.search(part):
            if result.tokens is None:
                result.tokens = value_of(match[1], match[2])
            part = _blanked(part, *match.span())
    part = _without_others(part)
    part = _read_fairseq(part, depth, result)
    for pattern in (LABELLED, BEFORE_WORD):
        for match in reversed(list(pattern.finditer(part))):
            kind, rule = _meaning(match["word"])
            numbers = result.steps if kind == "step" else result.epochs
            number, stop = _number(match, (depth, rule), rule)
            numbers.append(number)
            part = _blanked(part, match.start(), stop)
    if match := CHECKPOINT.search(part):
        number, stop = _number(match, (depth, CHECKPOINT_N), CHECKPOINT_N)
        rest = _blanked(part, 0, stop)
        result.checkpoints += [number, *_integers(rest, depth)]
        part = rest if depth else part
    if depth == 0:
        result.shape = _shape(part)
        result.integers += list(_integers(part, depth))
    elif match := PLAIN.fullmatch(part):
        value = value_of(match[1], match[2])
        if value is not None and value.is_integer() and "." not in part:
            place = (depth, FOLDER_RULE)
            result.integers.append(Number(place, FOLDER_RULE, value, part, folder=True))


def _without_others(part: str) -> str:
    """A part of a path without metrics, settings, hashes, and the totals of 5of10."""
    for match in OF_TOTAL.finditer(part):
        labelled = LABEL_BEFORE.search(part[: match.start()])
        part = _blanked(part, match.start(2 if labelled else 0), match.end())
    for pattern in OTHERS:
        for match in pattern.finditer(part):
            part = _blanked(part, *match.span())
    return part


def _read_fairseq(part: str, depth: int, result: PathNumbers) -> str:
    """``checkpoint_1_500``: epoch and step, unless it is a number with its thousands apart."""
    if not (match := FAIRSEQ.match(part)):
        return part
    groups = UNDERSCORED.match(part, match.start(1))
    grouped, sure = _grouped(groups)
    if groups is None or not sure:
        epoch, step = (value_of(match[k]) for k in (1, 2))
        written = match[0].partition("_")[2]
        for numbers, value, rule in (
            (result.steps, step, FAIRSEQ_RULE), (result.epochs, epoch, "name checkpoint_N_STEP"),
        ):  # fmt: skip
            place = (depth, FAIRSEQ_RULE)
            numbers.append(Number(place, rule, value, written, "", grouped, followed=True))
        return _blanked(part, *match.span())
    place = (depth, FAIRSEQ_RULE)
    result.steps.append(Number(place, CHECKPOINT_N, grouped, groups[0], "", grouped, sure=True))
    return _blanked(part, match.start(), groups.end())


def _number(match: re.Match[str], place: tuple[object, ...], rule: str) -> tuple[Number, int]:
    """The number of a match with the reason for doubts, and the end of its text."""
    text, stop = match.string, match.end()
    written = text[match.start("number") : stop] if match.re is not BEFORE_WORD else match["number"]
    groups = None if match["unit"] else UNDERSCORED.match(text, match.start("number"))
    grouped, sure = _grouped(groups)
    value, kind = value_of(match["number"], match["unit"]), _meaning(match["word"])[0]
    tail = "" if match.re is BEFORE_WORD else _tail(text, stop)
    doubt = ""
    if match["sign"]:
        doubt = f"-{written} is negative"
    elif tail:
        doubt = f"{written}{tail} is no number"
    elif value is None:
        doubt = f"{written[:20]} is too large"
    elif "_" in match["number"] and not sure:
        doubt = f"{written} is one number or several"
    elif kind == "step" and re.search(r"\.[0-9]{3}$", written):
        doubt = f"{written} is in thousands, or has decimals"
    elif kind == "step" and not value.is_integer():
        doubt = f"{written} is not whole"
    followed = bool(re.compile("_[0-9]").match(text, stop))
    written = written if groups is None else groups[0]
    number = Number(place, rule, None if doubt else value, written, doubt, grouped, sure, followed)
    return number, stop if groups is None else groups.end()


def _grouped(groups: re.Match[str] | None) -> tuple[float | None, bool]:
    """The value of digits grouped by underscores, and whether they can be nothing else."""
    if groups is None:
        return None, False
    return value_of(groups[0]), groups[0].count("_") > 1 or groups[0].endswith("_000")


def _tail(text: str, end: int) -> str:
    """Characters that join a number and are no word that may follow: the ``x`` of ``10x``."""
    if WHOLE_WORD.match(text, end):
        return ""
    tail = re.compile(r"[^\W_]+|[.,][0-9]+").match(text, end)
    return "" if tail is None else tail[0][:20]


def _meaning(word: str) -> tuple[str, str]:
    """Whether a word means steps or epochs, and the name of its rule."""
    word = word.lower().strip("_- ")
    if word == "ba":
        return "step", "name epN-baN"
    if word.startswith("ep"):
        return "epoch", "name epN" if word == "ep" else "name epoch=N"
    if word.startswith("it"):
        return "step", "name iter_N"
    return "step", "name update_N" if word.startswith("update") else "name step=N"


def _integers(part: str, depth: int) -> Iterator[Number]:
    """Numbers without a label: the second of ``model-10-85.5`` is not whole."""
    shape = _shape(part)
    for k, match in enumerate(UNLABELLED.finditer(part)):
        value = value_of(match[1], match[2])
        doubt = _doubt(part, match, value)
        named = doubt.endswith(A_NAME)  # the 18 of resnet18_100, which is no 18100
        groups = None if named or "_" in match[0] else UNDERSCORED.match(part, match.start())
        followed = bool(re.match("_[0-9]", part[match.end() :]))
        yield Number(
            (depth, shape, k), LAST_INTEGER_RULE, None if doubt else value,
            match[0] if groups is None else groups[0], doubt, _grouped(groups)[0], False, followed,
        )  # fmt: skip


def _doubt(part: str, match: re.Match[str], value: float | None) -> str:
    """Why a number without a label may be no step; empty where it is one."""
    before, after = part[: match.start()], part[match.end() :]
    if value is None:
        return f"{match[0][:20]} is too large"
    if (word := re.search(r"[A-Za-z]{2,}$", before)) and not COUNTED.search(word[0]):
        return f"{word[0]}{match[0]}{A_NAME}"
    if not word and re.search(r"[A-Za-z]$", before) and re.search(r"[eE]", match[0]):
        return f"{before[-1]}{match[0]} is one number or two"  # s1e10
    if rest := re.match(r"(?:[.,][0-9]+)+", after):
        return f"{match[0]}{rest[0]} is no number"
    if not value.is_integer() or ("." in match[0] and not match[2]):
        return f"{match[0]} is not whole"
    return f"-{match[0]} is negative" if re.search(r"(?:^|[_=\-. ])-$", before) else ""


def _shape(part: str) -> str:
    """A part of a path with # for each number."""
    for match in reversed(list(UNLABELLED.finditer(part))):
        part = f"{part[: match.start()]}#{part[match.end() :]}"
    return re.sub(rf"{BLANK}+", BLANK, part)


def _blanked(text: str, start: int, stop: int) -> str:
    """The text with a span replaced by blanks, but for slashes, so that folders stay apart."""
    return text[:start] + re.sub(r"[^/]", BLANK, text[start:stop]) + text[stop:]
