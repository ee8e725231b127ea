"""The benchmark measures what it says: contestants that agree, floors that are counted, figures that come out."""

import json
from pathlib import Path

import pytest
import torch

from siammae import ops
from siammae.bench.measure import Case, measure_frame, measure_operation
from siammae.bench.meter import Cost, Meter, take_turns
from siammae.bench.scripts import crw_script, dino_script, square_window
from siammae.cli import main

CPU = torch.device("cpu")


@pytest.mark.parametrize("case", [Case((9, 14), 3, 2, channels=16), Case((6, 5), 2, 7, top_k=3, channels=8)], ids=str)
def test_the_contestants_compute_the_same(case: Case) -> None:
    query, context, labels = case.draw(CPU, seed=0)
    window = square_window(case.grid, case.radius, CPU)
    ours = ops.propagate(query, context, labels, **case.options)
    dino = dino_script(query, context, labels, window, case.top_k)
    crw = crw_script(query, context, labels, (window - 1) * 1e10, case.top_k)
    torch.testing.assert_close(dino, ours, rtol=0, atol=1e-5)
    torch.testing.assert_close(crw, ours, rtol=0, atol=1e-5)
    assert case.flops == 2 * case.channels * case.context_frames * int(window.sum())


def test_a_dense_sequence_that_does_not_fit_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("siammae.bench.measure._memory", lambda device: 1e3)
    costs = measure_operation(Case((6, 5), 2, 2, channels=8), CPU, rounds=1, seconds=1)
    assert set(costs) == {"siammae", "crw"}


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="reads the peak of the memory from Linux's /proc")
def test_memory_and_time_are_those_of_the_call() -> None:
    meter = Meter(CPU)
    milliseconds, megabytes = meter(lambda: torch.ones(20_000_000).sum())
    assert milliseconds > 1
    assert megabytes == pytest.approx(76.3, abs=8)  # 80 million bytes


def test_medians_leave_the_first_round_out() -> None:
    rounds: list[int] = []
    costs = take_turns({"one": rounds.append}, CPU, rounds=3, seconds=60)
    assert rounds == [0, 1, 2, 3]
    assert isinstance(costs["one"], Cost)
    rounds.clear()
    take_turns({"one": rounds.append}, CPU, rounds=3, seconds=0)
    assert rounds == [0, 1]


def test_a_whole_frame_is_measured_against_the_same_features() -> None:
    found = measure_frame("vitt16", 64, 96, CPU, rounds=1, seconds=1)
    assert found["grid"] == (4, 6)
    assert found["cosine"] > 0.9999
    assert set(found["costs"]) == {"siammae", "our encoder", "dino script"}


def test_the_command_prints_a_table_and_writes_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "bench.json"
    sizes = ["--grids", "6x7", "--frames", "2", "--radii", "2", "3", "--models", "--device", "cpu", "--rounds", "1"]
    main(["bench", *sizes, "-o", str(out)])
    shown = capsys.readouterr().out
    assert shown.count("| 6x7 | 2 |") == 2
    figures = json.loads(out.read_text())
    assert [operation["radius"] for operation in figures["operations"]] == [2, 3]
    assert figures["operations"][0]["costs"]["dino"]["milliseconds"] > 0
    assert figures["machine"]["torch"] == torch.__version__


def test_a_grid_that_is_none_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["bench", "--grids", "30"])
    assert "expected rows x columns, such as 30x53" in capsys.readouterr().err
