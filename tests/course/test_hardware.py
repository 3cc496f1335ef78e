"""Whether bf16 and int8 are used is decided by a trial that may crash, hang, be wrong, or be slow."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from refract import hardware


@pytest.fixture(autouse=True)
def own(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("REFRACT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(hardware, "_known", {})
    return tmp_path / "cache"


@pytest.fixture
def probe(tmp_path, monkeypatch):
    """Replace the trial by another script, which notes every run."""

    def write(script: str) -> Path:
        runs = tmp_path / "runs"
        file = tmp_path / "probe.py"
        file.write_text(f"import json, os, signal, time\nopen({str(runs)!r}, 'a').write('x')\n{script}\n")
        monkeypatch.setattr(hardware, "PROBE", file)
        return runs

    return write


def answer(agrees: bool = True, fp32: float = 1.0, **other: float) -> str:
    return f"print(json.dumps({ {'agrees': agrees, 'fp32': fp32, 'bf16': 0.3, 'int8': 0.3} | other }))"


@pytest.mark.parametrize(
    ("script", "fast", "why"),
    [
        (answer(), True, "0.30 times as long as fp32"),
        (answer(bf16=2.0), False, "2.00 times as long as fp32"),
        (answer(bf16=0.95), False, "0.95 times as long"),  # not worth its rounding
        (answer(agrees=False), False, "its products are wrong"),
        ("os.kill(os.getpid(), signal.SIGILL)", False, f"exit status {-4}"),
        (answer() + "\nraise SystemExit(3)", False, "exit status 3"),
        ("print('nonsense')", False, "gave no answer"),
        ("print('{}')", False, "gave no answer"),
        ("print('[1]')", False, "gave no answer"),
        ("", False, "gave no answer"),
    ],
)
def test_the_verdict_and_its_reason(probe, script, fast, why):
    probe(script)
    assert hardware.fast_bf16("cpu") is fast
    assert why in hardware.bf16().why


def test_a_trial_that_hangs_is_stopped(probe, monkeypatch):
    probe("time.sleep(600)")
    monkeypatch.setattr(hardware, "PROBE_SECONDS", 1.0)
    began = time.perf_counter()
    assert hardware.bf16() == (False, "a trial did not end within 1 s")
    assert time.perf_counter() - began < 10


def test_one_trial_per_machine_even_across_processes(probe, monkeypatch):
    runs = probe(answer())
    for _ in range(3):
        monkeypatch.setattr(hardware, "_known", {})  # as a new process
        assert hardware.fast_bf16()
        assert hardware.fast_bf16(torch.device("cpu"))
    assert runs.read_text() == "x"
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")  # another kernel, another answer
    assert hardware.fast_bf16()
    assert runs.read_text() == "xx"


def test_what_is_remembered_is_for_this_processor_and_this_torch(monkeypatch):
    here = hardware.this_machine()
    assert f"torch {torch.__version__}" in here
    monkeypatch.setattr(hardware, "_processor", lambda: "another one")
    assert hardware.this_machine() != here


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"x": 1}', '{"x": [true]}'])
def test_a_damaged_memory_is_replaced(own, probe, damage, monkeypatch):
    own.mkdir()
    (own / "bf16.json").write_text(damage)
    runs = probe(answer())
    assert hardware.fast_bf16()
    assert json.loads((own / "bf16.json").read_text())[hardware.this_machine()][0] is True
    monkeypatch.setattr(hardware, "_known", {})
    assert hardware.fast_bf16()
    assert runs.read_text() == "x"


def test_without_a_cache_it_still_answers(tmp_path, probe, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("REFRACT_CACHE", str(tmp_path / "file/cache"))
    runs = probe(answer())
    assert hardware.fast_bf16()
    assert hardware.fast_bf16()
    assert runs.read_text() == "x"


@pytest.mark.parametrize(
    ("present", "native", "fast"), [(False, True, False), (True, False, False), (True, True, True)]
)
def test_a_gpu_is_asked_and_not_tried(monkeypatch, probe, present, native, fast):
    runs = probe(answer())
    monkeypatch.setattr(torch.cuda, "is_available", lambda: present)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: native or including_emulation)
    assert hardware.fast_bf16("cuda:0") is fast
    assert not hardware.fast_bf16("mps")
    assert not runs.exists()


def test_the_real_trial_ends_and_its_verdict_is_true_here():
    """Where it says yes, a product in this very process must work; where it says no, nothing is tried."""
    verdict = hardware.bf16()
    assert verdict.why
    if verdict.fast:
        x = torch.randn(256, 256)
        torch.testing.assert_close((x.bfloat16() @ x.bfloat16()).float(), x @ x, rtol=0.05, atol=1.0)


def test_the_real_trial_prints_what_is_read(monkeypatch):
    """The probe itself, with fp32 in place of bf16, so that it runs on every processor."""
    script = (
        "import runpy, sys, torch; torch.Tensor.bfloat16 = torch.Tensor.float; torch.bfloat16 = torch.float32; "
        "runpy.run_path(sys.argv[1], run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(hardware.PROBE), "bf16"],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    found = json.loads(done.stdout)
    assert found["agrees"] is True
    assert found["fp32"] > 0 < found["bf16"]


def test_bf16_and_int8_are_tried_and_remembered_apart(own, probe):
    runs = probe(answer(bf16=0.6, int8=0.6))
    for _ in range(2):
        assert hardware.bf16().fast  # 0.6 is worth its rounding ...
        assert hardware.int8() == (False, "it takes 0.60 times as long as fp32 on this CPU")  # ... but not more work
    assert runs.read_text() == "xx"
    assert {file.name for file in own.glob("*.json")} == {"bf16.json", "int8.json"}
    assert hardware.int8("cuda:0") == (False, "int8 has not been tried on cuda")


def test_the_real_trial_of_int8_tells_right_from_wrong():
    """The probe itself, and again with products whose sums overflow as on a CPU without the right instructions."""
    script = (
        "import runpy, sys, torch\n"
        "def overflows(a, b): return (a.double() @ b.double()).clamp(-2**15, 2**15 - 1).int()\n"
        "if sys.argv[2] == 'wrong': torch._int_mm = overflows\n"
        "runpy.run_path(sys.argv[1], run_name='__main__')"
    )
    for kind in ("right", "wrong"):
        done = subprocess.run(
            [sys.executable, "-c", script, str(hardware.PROBE), kind, "int8"],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        if kind == "wrong" or done.returncode == 0:
            found = json.loads(done.stdout)
            assert found["fp32"] > 0 < found["int8"]
        if kind == "wrong":
            assert found["agrees"] is False
        else:
            assert hardware.int8().fast <= (done.returncode == 0 and found["agrees"])


def test_neither_module_loads_torch():
    script = "import sys, refract.hardware, refract.cache; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
