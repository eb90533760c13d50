"""The check for people who have a GPU, where there is none."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from scripts.gpu_checking import __main__ as command
from scripts.gpu_checking import running, table
from scripts.gpu_checking.exactness import summary
from tests.pretend_device import building
from tests.pretend_device.environment import PROJECT, environment

SOME = ["exactness of cases", "speed"]
ALL_OF_A_DEVICE = [name for name in table.PARTS if name not in SOME]


def report(tmp_path, device: str, parts: list[str]) -> dict[str, Any]:
    """What a quick check writes."""
    path = tmp_path / "check.json"
    arguments = ["--quick", "--device", device, "--output", str(path), "--parts", ",".join(parts)]
    done = subprocess.run(
        [sys.executable, "-m", "scripts.gpu_checking", *arguments], env=environment(), cwd=PROJECT,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    found = json.loads(path.read_text("utf-8"))
    told = {name: result for name, result in found["parts"].items() if result["status"] != "done"}
    assert (done.returncode, told) == (0, {}), done.stdout
    assert list(found["parts"]) == parts
    return {name: result["findings"] for name, result in found["parts"].items()}


@pytest.fixture(scope="module")
def _compiled() -> None:
    if absent := building.missing():
        pytest.skip(absent)


@pytest.mark.nightly
@pytest.mark.usefixtures("_compiled")
@pytest.mark.parametrize("device", ["pretend:1", "cpu"])
def test_it_finds_what_it_is_to_find(device, tmp_path):
    found = report(tmp_path, device, SOME)
    for precision in ("float64", "float32"):
        exact = found["exactness of cases"][precision]
        assert exact["wrong"] == {}
        assert exact["exact"] == exact["reached"] == exact["wanted"] > 0
        assert 0 < exact["worst"] < exact["bound"]
    for ways in found["speed"].values():
        assert ways["ours"]["ratio"] == ways["ours"]["seconds"] / ways["plain"]["seconds"]
        assert {"plain, TF32", "vmap(grad)"} < ways.keys()


@pytest.mark.nightly
@pytest.mark.usefixtures("_compiled")
@pytest.mark.parametrize("device", ["pretend:1", "cpu"])
def test_all_other_parts_work_as_well(device, tmp_path):
    found = report(tmp_path, device, ALL_OF_A_DEVICE)
    assert found["machine"]["taken for"]["device"] == device
    assert found["exactness of models"]["float64"]["wrong"] == {}
    assert all(facts["same bits"] for facts in found["same bits"].values())
    ours = next(facts for name, facts in found["profile"].items() if name.endswith("ours"))
    assert ours["operations"] > 0
    assert 0.99 < sum(ours["shares"].values()) <= 1.0 or len(ours["shares"]) == 20
    two = found["two devices"]
    assert two["devices"] == (2 if device.startswith("pretend") else 0)
    if two["devices"]:
        assert two["same bits"]
        assert two["bytes on the first meanwhile"] == 0


BROKEN = """
import os, sys, time
print('["first", 1]', flush=True)
print("words of a kernel", file=sys.stderr)
{end}
"""


@pytest.mark.parametrize(
    ("end", "status"),
    [("", "done"), ("raise RuntimeError('no such device')", "failed"), ("os.abort()", "failed"),
     ("time.sleep(100)", "out of time")],
    ids=["done", "raises", "dies", "hangs"],
)  # fmt: skip
def test_what_a_part_found_stays_whatever_becomes_of_it(end, status, monkeypatch, capsys):
    """An illegal access to memory, say, after which its process can do nothing more."""
    popen = subprocess.Popen

    def broken(command, **options):
        assert command[1:4] == ["-m", "scripts.gpu_checking.part", "speed"]
        return popen([sys.executable, "-c", BROKEN.format(end=end)], **options)

    monkeypatch.setattr(subprocess, "Popen", broken)
    monkeypatch.setattr(running, "GRACE", 0.0)
    result = running.run_part("speed", "cuda", 2.0 if "sleep" in end else 60.0, quick=True)
    assert (result["status"], result["findings"]) == (status, {"first": 1})
    assert ("words of a kernel" in result.get("said", "")) == (status != "done")
    assert "first: 1" in capsys.readouterr().out


def test_the_others_go_on_and_the_file_says_what_failed(monkeypatch, tmp_path):
    path = tmp_path / "check.json"

    def run_part(name: str, *arguments: object) -> dict[str, Any]:
        status = "failed" if name == "memory" else "done"
        return {"status": status, "findings": {"number": float("nan")}}

    monkeypatch.setattr(command, "run_part", run_part)
    monkeypatch.setattr(sys, "argv", ["gpu_check", "--output", str(path)])
    assert command.main() == 1
    parts = json.loads(path.read_text(), parse_constant=pytest.fail)["parts"]
    assert [name for name, result in parts.items() if result["status"] == "failed"] == ["memory"]
    assert list(parts) == list(table.PARTS)
    assert parts["speed"]["findings"] == {"number": None}


def test_all_parts_together_take_ten_minutes_at_most():
    assert sum(part.seconds + running.GRACE for part in table.PARTS.values()) <= 600


def test_a_case_that_disagrees_or_fails_is_named():
    found = summary({"a": 1e-12, "b": 1e-3, "c": "ValueError: no"}, wanted=4, bound=1e-9)
    assert found["wrong"] == {"b": 1e-3, "c": "ValueError: no"}
    assert (found["wanted"], found["reached"], found["exact"], found["worst"]) == (4, 3, 1, 1e-12)


TALKING = """
from scripts.gpu_checking import part, table
from scripts.gpu_checking.check import Part

def findings(check):
    print("words of a model", check.device, 0 < check.left <= 9, check.quick)
    yield "numbers", [1, 2]

table.PARTS["talking"] = Part(findings, 1)
part.main("talking", "cpu", "9", "quick")
print("words of its end")
"""


def test_what_a_model_prints_is_no_finding():
    command = [sys.executable, "-c", TALKING]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.stdout == '["numbers", [1, 2]]\n'
    assert "words of a model cpu True True\n" in done.stderr


def test_no_folder_of_whoever_runs_it_is_in_the_file(monkeypatch):
    monkeypatch.setenv("HOME", "/home/jane")
    monkeypatch.chdir(PROJECT)
    assert running._anonymous(f"{PROJECT}/a.py, /home/jane/b.py") == "./a.py, ~/b.py"
