"""What comes before any heavy import: packages of one root, threads as many as may be."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.startup import (
    PACKAGES,
    ROOT,
    StartupError,
    check_packages,
    cores_at_hand,
    cpu_quotas,
    package_folder,
    set_threads,
)


def test_all_packages_come_from_one_root() -> None:
    check_packages()
    assert {package_folder(name) for name in PACKAGES} == {ROOT / name for name in PACKAGES}


@pytest.mark.parametrize("name", ["metrics", "datamodules"])
def test_a_strangers_package_gives_one_clear_line(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").write_text("raise SystemExit('imported by mistake')\n")
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}", "PYTHONSAFEPATH": "1"}
    command = [sys.executable, "-m", "experiments", "train"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    told = f"ifmdm: error: the package '{name}' would be loaded from {tmp_path / name}"
    assert done.stderr.startswith(told)


@pytest.mark.parametrize(
    ("line", "given", "threads"),
    [
        ("generate --threads 3 --seed 1", {"IFMDM_THREADS": "5"}, "3"),
        ("--threads=3 generate --seed 1", {"OMP_NUM_THREADS": "7"}, "3"),
        ("generate --seed 1", {"IFMDM_THREADS": "5", "OMP_NUM_THREADS": "7"}, "5"),
        ("generate --seed 1", {"OMP_NUM_THREADS": "7", "OMP_WAIT_POLICY": "ACTIVE"}, "7"),
        ("generate --seed 1", {}, str(cores_at_hand())),
    ],
)
def test_threads_are_those_that_were_asked_for(line: str, given: dict[str, str], threads: str) -> None:
    environment = dict(given)
    assert set_threads(line.split(), environment) == ["generate", "--seed", "1"]
    assert environment["OMP_NUM_THREADS"] == threads
    # nobody spins, unless the user wants it
    assert environment["OMP_WAIT_POLICY"] == given.get("OMP_WAIT_POLICY", "PASSIVE")


def test_torch_takes_the_number() -> None:
    code = """
from experiments.startup import set_threads
set_threads(["--threads", "1"])
import torch
print(torch.get_num_threads())
"""
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env=environment, check=True
    )
    assert done.stdout.strip() == "1"


@pytest.mark.parametrize("number", ["0", "-1", "two", "", "1.5", "9999"])
def test_a_wrong_number_of_threads_is_refused(number: str) -> None:
    for words, environment in ((["train", "--threads", number], {}), (["train"], {"IFMDM_THREADS": number})):
        with pytest.raises(StartupError, match=f"is '{number}'"):
            set_threads(words, environment)
    with pytest.raises(StartupError, match="--threads is ''"):
        set_threads(["train", "--threads"], {})


@pytest.mark.parametrize(
    ("membership", "files", "quotas"),
    [
        ("0::/", {"cpu.max": "250000 100000"}, [2.5]),
        ("0::/user/job", {"user/cpu.max": "100000 100000", "user/job/cpu.max": "max 100000"}, [1.0]),
        ("0::/not/seen/here", {"cpu.max": "300000 100000"}, [3.0]),  # a container sees a part of the tree
        (
            "3:memory:/job\n2:cpu,cpuacct:/job",
            {"cpu/job/cpu.cfs_quota_us": "150000", "cpu/job/cpu.cfs_period_us": "100000"},
            [1.5],
        ),
        ("2:cpu:/", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, []),
        ("0::/", {"cpu.max": "nonsense"}, []),
        ("", {}, []),
    ],
)
def test_quotas_of_control_groups(
    tmp_path: Path, membership: str, files: dict[str, str], quotas: list[float]
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text + "\n")
    (tmp_path / "membership").write_text(membership)
    assert list(cpu_quotas(tmp_path, tmp_path / "membership")) == quotas
    at_hand = cores_at_hand(tmp_path, tmp_path / "membership")
    assert at_hand == max(1, min([len(os.sched_getaffinity(0)), *(int(quota) for quota in quotas)]))
