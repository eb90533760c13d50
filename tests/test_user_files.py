"""The code that a model spec imports from the user's side; directories of any depth."""

from __future__ import annotations

import itertools
import os

import pytest
import torch

from analyze.checkpoints.finding.discovery import find
from analyze.checkpoints.finding.tree import look_through
from analyze.errors import InputError
from analyze.files.walking import LONGEST_PATH, is_too_long, walk
from analyze.specs.user_files import files_of
from tests.conftest import small_weights
from tests.hostile_files import WEIGHTS

ADDED = "import sys, os, pathlib\nHERE = pathlib.Path(__file__).parent\n"
# The files of a project, the source of the spec, and what counts besides the file of the spec.
CODE = {
    "a call": ({"m.py": "import importlib\nh = importlib.import_module('h.a')\n",
                "h/__init__.py": "", "h/a.py": ""}, "m.py", {"h/__init__.py", "h/a.py"}),
    "a call of a name": ({"m.py": "from importlib import import_module as im, import_module\n"
                          "h = import_module('h')\n", "h.py": ""}, "m.py", {"h.py"}),
    "the call of Python itself": ({"m.py": "h = __import__('h')\n", "h.py": ""}, "m.py", {"h.py"}),
    "a relative call": ({"n/__init__.py": "", "n/h.py": "",
                         "n/m.py": "import_module('.h', __package__)\n"},
                        "n.m", {"n/__init__.py", "n/h.py"}),
    "the packages around it": ({"n/__init__.py": "from . import z\n", "n/z.py": "", "n/m.py": ""},
                               "n.m", {"n/__init__.py", "n/z.py"}),
    "a package without a file": ({"m.py": "from ns.a import b\n", "ns/a/b.py": ""},
                                 "m.py", {"ns/a/b.py"}),
    "all of a package": ({"m.py": "from p import *\n", "p/__init__.py": "__all__ = ['q']\n",
                          "p/q.py": ""}, "m.py", {"p/__init__.py", "p/q.py"}),
    "a path beside it": ({"m.py": ADDED + "sys.path.insert(0, str(HERE / 'lib'))\nimport h\n",
                          "lib/h.py": ""}, "m.py", {"lib/h.py"}),
    "a path above it": ({"a/m.py": ADDED + "sys.path.append(os.path.dirname(HERE))\nimport h\n",
                         "h.py": ""}, "a/m.py", {"h.py"}),
    "a path, for what is imported": (
        {"m.py": "import g\nimport h\n", "g.py": ADDED + "sys.path += []\nsys.path.append('lib')\n",
         "lib/h.py": ""}, "m.py", {"g.py", "lib/h.py"}),
    "a file that is run": ({"m.py": "import runpy\nh = runpy.run_path('h.py')\n", "h.py": ""},
                           "m.py", {"h.py"}),
    "words that are none": ({"m.py": "h = import_module(name)\nx = __import__('.')\n'a\\0.py'\n",
                             "h.py": ""}, "m.py", set()),
}  # fmt: skip


@pytest.mark.parametrize(
    "place", ["lib/python3.11/site-packages", "usr/lib/python3/dist-packages", "site-packages/more"]
)
def test_libraries_of_another_environment_are_no_code_of_the_user(tmp_path, monkeypatch, place):
    """As with --system-site-packages: thousands of files would be parsed and hashed."""
    library = tmp_path / "other environment" / place
    (library / "torchlike").mkdir(parents=True)
    (library / "torchlike" / "__init__.py").write_text("from torchlike import nn\n")
    (library / "torchlike" / "nn.py").write_text("")
    (tmp_path / "h.py").write_text("import torchlike\n")
    (tmp_path / "m.py").write_text("import h\nfrom torchlike.nn import Linear\n")
    monkeypatch.syspath_prepend(str(library))
    assert files_of(str(tmp_path / "m.py")) == [tmp_path / "m.py", tmp_path / "h.py"]


@pytest.mark.parametrize("case", CODE)
def test_code_counts_however_it_is_imported(tmp_path, monkeypatch, case):
    files, source, expected = CODE[case]
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    if source.endswith(".py"):
        source = str(tmp_path / source)
    else:
        monkeypatch.syspath_prepend(str(tmp_path))
    first, *others = files_of(source)
    assert first.name == "m.py"
    found = {str(path.relative_to(tmp_path)) for path in others}
    assert found == expected


# --- directories


def test_a_walk_is_sorted_and_follows_no_links(tmp_path):
    for name in ("b/2", "b/1", "a/c", "skipped/d"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "b" / "file").touch()
    (tmp_path / "a" / "link").symlink_to(tmp_path)
    (tmp_path / "a" / "circle").symlink_to("circle")
    seen = []
    for place, folders, files in walk(tmp_path):
        folders[:] = [name for name in folders if name != "skipped"]
        seen.append((str(place.relative_to(tmp_path)), folders, files))
    assert seen == [
        (".", ["a", "b"], []), ("a", ["c", "link"], ["circle"]), ("a/c", [], []),
        ("b", ["1", "2"], ["file"]), ("b/1", [], []), ("b/2", [], []),
    ]  # fmt: skip


@pytest.fixture
def deep(tmp_path):
    """A directory for very deep ones, that are taken away again: pytest itself could not."""
    yield tmp_path
    numbers = itertools.count()
    while folders := [path for path in tmp_path.iterdir() if path.is_dir()]:
        for folder in folders:
            for path in folder.iterdir():
                path.rename(tmp_path / f"taken{next(numbers)}")
            folder.rmdir()


def nested(top, name: str, depth: int) -> int:
    """A descriptor of the innermost of directories in one another, of paths of any length."""
    place = os.open(top, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir(name, dir_fd=place)
        inner = os.open(name, os.O_RDONLY, dir_fd=place)
        os.close(place)
        place = inner
    return place


def test_a_checkpoint_in_1500_directories_is_found(deep):
    torch.save(small_weights(1), deep / "step_1.pt")
    place = nested(deep, "d", 1500)
    with os.fdopen(os.open("step_2.pt", os.O_WRONLY | os.O_CREAT, dir_fd=place), "wb") as file:
        torch.save(small_weights(2), file)
    os.close(place)
    assert [c.step for c in find(deep).checkpoints] == [1, 2]


def test_what_is_too_deep_to_be_opened_is_told(deep):
    torch.save(WEIGHTS, deep / "step_1.pt")
    os.close(nested(deep, "d" * 100, 60))
    tree = look_through(deep)
    assert [path.name for path in tree.candidates] == ["step_1.pt"]
    (left,) = tree.left_out
    assert left.why == "a directory whose path is too long to open what is in it"
    assert LONGEST_PATH - 101 < len(os.fsencode(deep / left.name)) - 101 <= LONGEST_PATH
    assert is_too_long(deep / left.name)


def test_an_empty_run_has_no_files(tmp_path):
    with pytest.raises(InputError, match="no checkpoints in the run") as error:
        find(tmp_path)
    assert error.value.found.startswith("0 files below")
