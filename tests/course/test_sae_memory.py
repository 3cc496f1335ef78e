"""Memory that is freed stays with the process, if the C library can be asked for that."""

import ctypes
import platform
import subprocess
import sys

import pytest

from refract.sae import memory
from refract.sae.training import Trainer
from tests.course import test_sae_training as toy

store = toy.store

# Blocks as large as the gradients of 18,432 latents; a page that the system gives is a "minor fault".
FAULTS = """
import resource, sys
import torch
from refract.sae import memory

if sys.argv[1] == "keep":
    assert memory.keep_freed()
for step in range(14):
    if step == 10:  # by then the C library has gathered enough
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    pair = torch.ones(18432, 576), torch.ones(18432, 576)
    del pair
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how):
    done = subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_the_system_is_not_asked_again_for_what_was_freed():
    assert faults("keep") < faults("give back") / 20


def test_elsewhere_nothing_is_done(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert memory.keep_freed.__wrapped__() is False


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    assert memory.keep_freed.__wrapped__() is False


@pytest.mark.usefixtures("one_thread")
def test_a_run_asks_for_it(store, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(memory, "keep_freed", lambda: asked.append(True))
    trainer = Trainer(toy.changed(tokens=256), store, tmp_path)
    assert not asked
    trainer.run()
    assert asked
