"""The parts of the check, in order, with the seconds of each: ten minutes in all.

A quick check has as many as it needs: its models are tiny, and it is to say whether all works.
"""

from __future__ import annotations

from scripts.gpu_checking.check import Part
from scripts.gpu_checking.exactness import cases, models
from scripts.gpu_checking.machine import machine
from scripts.gpu_checking.memory import memory
from scripts.gpu_checking.profiles import profiles
from scripts.gpu_checking.repeats import repeats
from scripts.gpu_checking.speed import speed
from scripts.gpu_checking.two_devices import two_devices

PARTS = {
    "machine": Part(machine, 20),
    "exactness of cases": Part(cases, 140),
    "exactness of models": Part(models, 60),
    "speed": Part(speed, 120),
    "memory": Part(memory, 50),
    "profile": Part(profiles, 50),
    "same bits": Part(repeats, 50),
    "two devices": Part(two_devices, 30),
}
