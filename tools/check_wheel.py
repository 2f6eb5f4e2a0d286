"""Build the wheel, install it into an empty environment without extras, and run it there as a user would."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

_WRITE_PHANTOM = """
import sys, nibabel, numpy
i, j, k = numpy.indices((40, 30, 20))
hu = numpy.where((i - 20) ** 2 + (j - 15) ** 2 + (k - 10) ** 2 < 64, 300, -1000).astype(numpy.int16)
nibabel.save(nibabel.Nifti1Image(hu, numpy.diag([2.0, 2.0, 2.0, 1.0])), sys.argv[1])
"""

_FLAGS = ["--view=AP", "--sdd-mm=1000", "--source-isocenter-mm=900", "--size=64x64", "--pixel-mm=2"]


def main() -> None:
    """Build, install, run; any failure ends with its own message and a non-zero status."""
    with tempfile.TemporaryDirectory(prefix="hierbmd-wheel-") as name:
        folder = Path(name)
        _run(sys.executable, "-m", "build", "--wheel", "--outdir", folder, ROOT)
        wheel = next(folder.glob("hierbmd-*.whl"))
        venv.create(folder / "env", with_pip=True)
        bin_folder = folder / "env" / "bin"
        _run(bin_folder / "pip", "install", "--quiet", "--constraint", ROOT / "requirements.lock", wheel)
        _check_installed(bin_folder, folder)
    print(f"{wheel.name}: installs into an empty environment and runs")


def _check_installed(bin_folder: Path, folder: Path) -> None:
    phantom = folder / "phantom.nii.gz"
    _run(bin_folder / "python", "-c", _WRITE_PHANTOM, phantom)
    _run(bin_folder / "hierbmd", "--help")
    _run(bin_folder / "hierbmd", "drr", phantom, "--out", folder / "drr", *_FLAGS)
    for left in ("drr_0000.mha", "drr_0000.png", "drr_0000.json"):
        if not (folder / "drr" / left).is_file():
            raise SystemExit(f"the installed wheel's `hierbmd drr` left no {left}")
    _run(bin_folder / "python", "-c", "import hierbmd.stages.regress, hierbmd.configs")
    top_level = _run(bin_folder / "python", "-c", "import importlib.util as u; print(u.find_spec('stages'))")
    if top_level.strip() != "None":
        raise SystemExit("the wheel installs a top-level package named stages")


def _run(*command: str | Path) -> str:
    # Away from the source tree, so that what is imported is what was installed.
    done = subprocess.run(
        [str(c) for c in command], cwd=tempfile.gettempdir(), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
    return done.stdout


if __name__ == "__main__":
    main()
