"""Build a TensorRT engine from the typed model.onnx beside this file, on the device it is for:

    python3 build_engine.py [--time]

Needs the standard library and trtexec, as JetPack and the TensorRT packages bring it. An engine is valid for the
TensorRT version and the GPU it was built with; engine.json says which, and that the ONNX file is the same.
"""

import argparse
import contextlib
import hashlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
TRTEXEC = ("/usr/src/tensorrt/bin/trtexec", "/usr/local/bin/trtexec", "/opt/tensorrt/bin/trtexec")


def parse_version(text: str) -> tuple[int, int]:
    """(10, 3) from what trtexec prints: `[TensorRT v100300]`, `v101401`, or `TensorRT version: 10.3.0`."""
    packed = re.search(r"TensorRT v(\d{5,6})\b", text)
    if packed:
        number = int(packed[1])  # major * 10000 + minor * 100 + patch
        return number // 10000, number // 100 % 100
    dotted = re.search(r"TensorRT[^\d\n]*(\d+)\.(\d+)", text)
    if dotted:
        return int(dotted[1]), int(dotted[2])
    old = re.search(r"TensorRT v(\d)(\d)\d\d\b", text)
    if old:
        return int(old[1]), int(old[2])
    raise ValueError(f"no TensorRT version in {text[:80]!r}")


def trtexec_command(
    trtexec: str, version: tuple[int, int], onnx: str, engine: str, *, time: bool
) -> list[str]:
    """The command for this version: 10 needs to be told that the model is typed, 11 knows nothing else.

    For comparable times both measure without data transfers, with spinning waits and CUDA graphs, which 11 does unasked.
    """
    major = version[0]
    if major < 10:
        raise ValueError(
            f"TensorRT {version[0]}.{version[1]} is too old for typed models; 10.0 or later is needed"
        )
    command = [trtexec, f"--onnx={onnx}", f"--saveEngine={engine}"]
    if major == 10:
        command.append("--stronglyTyped")
    if not time:
        return [*command, "--skipInference"]
    if major == 10:
        command += ["--noDataTransfers", "--useSpinWait", "--useCudaGraph"]
    return [*command, "--warmUp=500", "--duration=10", "--exportTimes=times.json"]


def find_trtexec() -> str:
    found = shutil.which("trtexec") or next((path for path in TRTEXEC if Path(path).exists()), None)
    if found is None:
        raise ValueError("trtexec is not here: on a Jetson run `sudo apt install libnvinfer-bin`")
    return found


def device() -> str:
    for name in ("/proc/device-tree/model", "/etc/nv_tegra_release"):
        if Path(name).exists():
            return Path(name).read_text(encoding="utf-8", errors="replace").strip("\0 \n")
    if shutil.which("nvidia-smi"):
        query = ["nvidia-smi", "--query-gpu=name,compute_cap,driver_version", "--format=csv,noheader"]
        with contextlib.suppress(subprocess.TimeoutExpired):  # as where a driver hangs
            return subprocess.run(
                query, capture_output=True, encoding="utf-8", errors="replace", timeout=60
            ).stdout.strip()
    return "unknown"


def compute_capability(device: str) -> str | None:
    """`8.7`, from a Jetson's name or nvidia-smi's answer; None where unknown."""
    for name, capability in {"Xavier": "7.2", "Orin": "8.7", "Thor": "11.0"}.items():
        if name in device:
            return capability
    answer = re.search(r", (\d+\.\d+), ", device)
    return answer[1] if answer else None


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def build(*, time: bool) -> None:
    trtexec = find_trtexec()
    try:
        banner = subprocess.run(
            [trtexec, "--help"], capture_output=True, encoding="utf-8", errors="replace", timeout=120
        )
    except subprocess.TimeoutExpired:
        raise ValueError(f"{trtexec} --help did not answer within 2 minutes; does the GPU?") from None
    version = parse_version(banner.stdout + banner.stderr)
    onnx, engine = HERE / "model.onnx", HERE / "model.engine"
    if not onnx.exists():
        raise ValueError("model.onnx is not beside build_engine.py")
    command = trtexec_command(trtexec, version, str(onnx), str(engine), time=time)
    if subprocess.run(command, cwd=HERE).returncode != 0:
        raise ValueError(f"trtexec failed; the command was {' '.join(command)}")
    on = device()
    about = {
        "tensorrt": f"{version[0]}.{version[1]}",
        "device": on,
        "compute_capability": compute_capability(on),
        "onnx_sha256": digest(onnx),
        "engine_sha256": digest(engine),
        "command": [Path(command[0]).name, *(part.replace(f"{HERE}/", "") for part in command[1:])],
    }
    (HERE / "engine.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    print(f"built {engine.name} for {about['device']}, TensorRT {about['tensorrt']}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--time", action="store_true", help="measure the engine too; times.json has the samples"
    )
    try:
        build(time=parser.parse_args().time)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
