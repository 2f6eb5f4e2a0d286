"""What a GPU must do for a sample, read off the machine code: our kernels and nanodrr's, compiled without a GPU.

`python benchmarks/gpu_counts.py` prints a line a kernel: its registers and, of its innermost loop, how often a sample
goes to spilled registers, its instructions, loads and float operations. A process of its own, without
TRITON_INTERPRET: what Triton interprets it cannot compile. The stand-in driver only names the target, compute
capability 9.0 (H100). `--page docs/benchmarks` writes the table as gpu.md, too.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget

from hierbmd.drr.cuda import launch_options
from hierbmd.drr.triton_field import Packed
from hierbmd.drr.triton_kernel import project
from hierbmd.drr.triton_march import Field
from hierbmd.drr.triton_rays import CAMERA_NUMBERS
from hierbmd.io.atomic import atomic_path

TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
OURS = {
    "image, 1 structure": (0, 1, 0, 4),
    "image and Jacobian, 1 structure": (1, 1, 0, 4),
    "image and ends, labels, apart": (2, 1, 4, 4),
    "moments, 1 structure": (3, 1, 0, 4),
    "image, labels, apart": (0, 1, 4, 4),
    "image and Jacobian, labels, apart": (1, 1, 4, 4),
    "image, labels, four together": (0, 4, 4, 4),
    "image and Jacobian, labels, four together": (1, 4, 4, 4),
    "image and Jacobian, labels, two together": (1, 2, 4, 4),
    "image and Jacobian, 1 structure, few rays": (1, 1, 0, 16),
}
"""Mode, structures of a program, bits of a label and planes at a time."""

NANODRR = {
    "forward, 1 structure": (False, 1, False),
    "backward to the pose, 1 structure": (True, 1, False),
    "forward, 11 classes, soft": (False, 11, True),
    "backward to the pose, 11 classes, soft": (True, 11, True),
    "forward, 11 classes, nearest": (False, 11, False),
    "backward to the pose, 11 classes, nearest": (True, 11, False),
}
"""Whether backward, the classes with the background, and whether each neighbour has its own label."""

_HEAD = ["kernel", "registers", "spilled", "instructions", "loads", "float operations"]
_PIXELS = 256 * 256
_PAGE = """# What a GPU must do

Written by `python benchmarks/gpu_counts.py --page docs/benchmarks` ({versions}): nothing here is typed by hand.
**None of it is a time: the cuda backend has not run on a GPU.** The kernels were compiled for compute capability 9.0
(H100) and their machine code read. On a machine with a GPU `python benchmarks/gpu.py` measures both in turn.

Registers are a thread's; the rest is of the innermost loop, a sample: words that go to spilled registers,
instructions, 32-bit loads, float operations (a fused multiply-add is two).

{table}

## One image

256^3 voxels, 256 x 256 pixels, a sample a plane: {samples} million samples when no slab is empty. All must move at
least the {memory}; the bytes loaded below are asked of the caches.

{totals}
"""

_FLOAT = {"FADD": 1, "FMUL": 1, "FFMA": 2, "FMNMX": 1}


class _Offline:
    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", 90, 32)

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: object = None) -> int:
        return 0


def ours(mode: int, group: int, label_bits: int, planes: int) -> bytes:
    """The machine code of our kernel for a volume and image of any size."""
    words = torch.zeros(1, dtype=torch.int32 if label_bits else torch.float32)
    numbers = torch.zeros(CAMERA_NUMBERS, dtype=torch.float64)
    field = Field(words, torch.zeros(1), numbers, n0=255, n1=256, n2=1, s0=5 * 260, s1=5, slabs=8, apart=0)
    options = launch_options(mode, Packed(field, group, label_bits), planes)
    image = torch.zeros(1)
    kernel = project.warmup(field, numbers, numbers, (1, 5, 9, 7), image, image, grid=(1,), **options)
    return bytes(kernel.asm["cubin"])


def nanodrr(backward: bool, classes: int, soft: bool) -> bytes:
    """The machine code of nanodrr's kernel as it launches it for one pose, 256^3 voxels and 256 x 256 pixels."""
    from nanodrr.drr import _triton as kernels

    width, size, samples, split = 256, 256 * 256, 256, 1
    pointers = [torch.zeros(1) for _ in range(13)]
    kernel = kernels._fused_kernel.warmup(
        *pointers,
        *(size, 256, 256, 256, samples, 1.0 / samples, 0, 3, width, classes * size, size),
        C=classes,
        CP2=triton.next_power_of_2(classes),
        BACKWARD=backward,
        NEED_GVOL=False,
        NEED_GCAM=False,
        SOFT=soft,
        SPLIT=split,
        TW=kernels._TILE_W,
        BLOCK=kernels._BLOCK,
        num_warps=kernels._WARPS,
        grid=(1,),
    )
    return bytes(kernel.asm["cubin"])


def tool(name: str, option: str, cubin: bytes) -> str:
    """What one of the tools that come with Triton says of machine code."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        return subprocess.run([TOOLS / name, option, file.name], capture_output=True, text=True, check=True).stdout


def registers(cubin: bytes) -> int:
    """Registers of a thread."""
    told = tool("cuobjdump", "-res-usage", cubin)
    found = re.search(r"REG:(\d+)", told)
    if found is None:
        raise ValueError(f"cuobjdump said {told!r}")
    return int(found.group(1))


def loops(cubin: bytes) -> Iterator[Counter[str]]:
    """The instructions of every innermost loop, by name."""
    code: list[str] = []
    labels: dict[str, int] = {}
    for line in tool("nvdisasm", "-c", cubin).splitlines():
        if label := re.match(r"(\.L_x_\d+):", line):
            labels[label.group(1)] = len(code)
        elif instruction := re.match(r"\s+/\*[0-9a-f]+\*/\s+(.*?);", line):
            code.append(instruction.group(1))
    spans = []
    for place, text in enumerate(code):
        target = re.search(r"BRA.*\((\.L_x_\d+)\)", text)
        if target and labels.get(target.group(1), place) < place:
            spans.append((labels[target.group(1)], place + 1))
    for first, end in spans:
        if not any(first <= a and b <= end and (a, b) != (first, end) for a, b in spans):
            yield Counter(re.sub(r"^@!?U?P\w+ ", "", text).split()[0].split(".")[0] for text in code[first:end])


def per_sample(cubin: bytes, loads: int) -> dict[str, float]:
    """Instructions, loads and float operations of a sample, which loads `loads` words: of the loop that loads most."""
    busiest = max(loops(cubin), key=lambda loop: loop["LDG"])
    samples = busiest["LDG"] / loads
    return {
        "spilled": (busiest["LDL"] + busiest["STL"]) / samples,
        "instructions": busiest.total() / samples,
        "loads": float(loads),
        "float operations": sum(busiest[name] * count for name, count in _FLOAT.items()) / samples,
    }


def main() -> None:
    """Print the counts of our kernels and, where it is installed, of nanodrr's; write the page when asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ours", action="store_true", help="leave nanodrr's kernels out")
    parser.add_argument("--few", action="store_true", help="of ours the first four only")
    parser.add_argument("--page", type=Path, help="folder to write gpu.md to")
    given = parser.parse_args()
    triton.runtime.driver.set_active(_Offline())
    print(*_HEAD, sep=" | ")
    rows = []
    for name, case in list(OURS.items())[: 4 if given.few else None]:
        rows.append(_told(f"ours: {name}", ours(*case), 4))
    for name, (backward, classes, soft) in {} if given.ours else NANODRR.items():
        loads = 8 if classes == 1 else 9 if not soft else 16
        loads += 0 if classes == 1 or not backward else 8 if soft else 1
        rows.append(_told(f"nanodrr: {name}", nanodrr(backward, classes, soft), loads))
    if given.page:
        with atomic_path(given.page / "gpu.md") as path:
            path.write_text(page(rows), encoding="utf-8")


def page(rows: list[list[Any]]) -> str:
    """The table as a page, with the bytes and operations of an image of 256^3 voxels and 256 x 256 pixels."""
    table = [_HEAD, ["---"] * len(_HEAD), *(map(str, row) for row in rows)]
    lines = ["| " + " | ".join(row) + " |" for row in table]
    samples, volume_mb, image_mb = 256 * _PIXELS, 4 * 256**3 / 2**20, 4 * _PIXELS / 2**20
    totals = ["| kernel | instructions | bytes loaded | float operations |", "|---|---|---|---|"]
    for name, _, _, instructions, loads, operations in rows:
        if str(name).endswith("1 structure"):
            counts = f"{instructions * samples / 1e9:.2f} G | {4 * loads * samples / 1e6:.0f} MB"
            totals.append(f"| {name} | {counts} | {operations * samples / 1e9:.2f} G |")
    names = ("triton", "torch", *(("nanodrr",) if any("nanodrr" in row[0] for row in rows) else ()))
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)
    memory = f"volume ({volume_mb:.0f} MB), once, image ({image_mb:.2f} MB) and Jacobian ({6 * image_mb:.2f} MB)"
    return _PAGE.format(
        versions=versions,
        table="\n".join(lines),
        samples=f"{samples / 1e6:.1f}",
        memory=memory,
        totals="\n".join(totals),
    )


def _told(name: str, cubin: bytes, loads: int) -> list[Any]:
    row = [name, registers(cubin), *(round(value, 1) for value in per_sample(cubin, loads).values())]
    print(*row, sep=" | ", flush=True)
    return row


if __name__ == "__main__":
    main()
