"""Ctrl-C in the middle of a run: the step is finished, everything is saved, and the run can go on."""

from __future__ import annotations

import signal
import threading

import pytest

from refract.sae import interrupts
from refract.sae.training import Trainer
from tests.course import test_sae_training as toy

pytestmark = pytest.mark.usefixtures("one_thread")
store = toy.store
STOP_AT = 23  # between two points of the curve, and two checkpoints


@pytest.fixture
def usual(monkeypatch):
    """Ctrl-C as in a program of one's own."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def press(times: int = 1) -> None:
    for _ in range(times):
        signal.raise_signal(signal.SIGINT)


def test_a_run_is_saved_where_it_is_and_goes_on_to_the_same_bits(store, tmp_path, monkeypatch, usual):
    whole = Trainer(toy.CONFIG, store, tmp_path / "whole")
    whole.run()
    trainer = Trainer(toy.CONFIG, store, tmp_path / "parts")
    step = trainer._step

    def interrupted_step(batch):
        if trainer.done == STOP_AT - 1:
            press()
        return step(batch)

    monkeypatch.setattr(trainer, "_step", interrupted_step)
    with pytest.raises(KeyboardInterrupt):
        trainer.run()
    assert trainer.done == STOP_AT
    again = Trainer(toy.CONFIG, store, tmp_path / "parts")
    assert again.resume()
    assert again.done == STOP_AT
    again.run()
    assert toy.same_tensors(toy.state(whole), toy.state(again))
    assert [point["step"] for point in again.curve] == [point["step"] for point in whole.curve]


def test_a_run_that_has_gone_wrong_does_not_replace_the_last_good_checkpoint(store, tmp_path, monkeypatch, usual):
    trainer = Trainer(toy.CONFIG, store, tmp_path)
    step = trainer._step

    def ruined_step(batch):
        if trainer.done == STOP_AT - 1:
            trainer.coder.b_dec.data.fill_(float("nan"))
            press()
        return step(batch)

    monkeypatch.setattr(trainer, "_step", ruined_step)
    with pytest.raises(KeyboardInterrupt):
        trainer.run()
    again = Trainer(toy.CONFIG, store, tmp_path)
    assert again.resume()
    assert again.done == 20


def test_the_second_one_does_not_wait(usual):
    with interrupts.held_back() as interrupted:
        assert not interrupted()
        press()
        assert interrupted()
        with pytest.raises(KeyboardInterrupt):
            press()
    with pytest.raises(KeyboardInterrupt):  # and afterwards all is as before
        press()


def test_it_leaves_alone_who_takes_care_himself(usual):
    with interrupts.held_back(False), pytest.raises(KeyboardInterrupt):
        press()
    seen = []
    signal.signal(signal.SIGINT, lambda *given: seen.append(given))
    with interrupts.held_back() as interrupted:
        press()
        assert not interrupted()
    assert seen


def test_it_does_nothing_in_a_thread(usual):
    found = []

    def work():
        with interrupts.held_back() as interrupted:
            found.append(interrupted())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [False]
