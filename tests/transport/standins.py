"""Stand-ins for programs of a Jetson, put on the search path of the tests' ssh server.

trtexec really runs the model that was sent, by ONNX Runtime, and prints what it measured as a version of trtexec does.
The others print what was seen on a board, and jetson_clocks keeps the state that it is asked to set.
"""

from __future__ import annotations

TRTEXEC = '''
"""trtexec's flags and formats around ONNX Runtime."""
import sys, time
NUMBER = "@NUMBER@"
NEW = int(NUMBER) >= 100000
KNOWN = {"onnx", "loadEngine", "saveEngine", "timingCacheFile", "warmUp", "duration", "iterations", "avgRuns",
         "exportTimes", "noDataTransfers", "useSpinWait", "useCudaGraph", "fp16", "int8", "help"}
KNOWN |= {"stronglyTyped", "skipInference"} if NEW else {"buildOnly", "workspace"}

def say(text, level="I"):
    print(f"[{time.strftime('%m/%d/%Y-%H:%M:%S')}] [{level}] {text}", flush=True)

def status(word):
    print(f"&&&& {word} TensorRT.trtexec [TensorRT v{NUMBER}] # trtexec {' '.join(sys.argv[1:])}", flush=True)

def failed(text):
    say(text, "E")
    status("FAILED")
    sys.exit(1)

def quantile(values, share):
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]

def line(name, ms):
    shares = (90, 95, 99) if NEW else (99,)
    tail = "".join(f", percentile({p}%) = {quantile(ms, p / 100):g} ms" for p in shares)
    mean = sum(ms) / len(ms)
    say(f"{name}: min = {min(ms):g} ms, max = {max(ms):g} ms, mean = {mean:g} ms, median = {quantile(ms, 0.5):g} ms{tail}")

def session(path):
    import onnxruntime as ort
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        failed(f"Engine could not be created from {path}: {str(error)[:80]}")

def main():
    flags = {}
    for text in sys.argv[1:]:
        name, _, value = text.lstrip("-").partition("=")
        if name not in KNOWN or not text.startswith("--"):
            failed(f"Unknown option: {text} {value}")
        flags[name] = value
    status("RUNNING")
    if "help" in flags:
        print("=== Model Options ===\\n" + "\\n".join(f"  --{name}=<spec>   see the manual" for name in sorted(KNOWN)))
        status("PASSED")
        return
    say(f"TensorRT version: {NUMBER}")
    if "onnx" in flags:
        with open(flags["onnx"], "rb") as model:
            content = model.read()
        if content[:1] != b"\\x08":  # the field that an ONNX model begins with
            failed(f"Engine could not be created from {flags['onnx']}")
        with open(flags["saveEngine"], "wb") as engine:
            engine.write(content)
        say("Engine built in 0.1 sec.")
        if not {"skipInference", "buildOnly"} & set(flags):
            failed("these tests build and time apart")
        status("PASSED")
        return
    timed(session(flags["loadEngine"]), flags)
    status("PASSED")

def timed(model, flags):
    import numpy as np
    binding = model.io_binding()
    for value in model.get_inputs():
        binding.bind_cpu_input(value.name, np.random.default_rng(0).normal(size=value.shape).astype(np.float32))
    for value in model.get_outputs():
        binding.bind_output(value.name)
    say("Starting inference")
    start = time.perf_counter()
    while time.perf_counter() - start < float(flags["warmUp"]) / 1e3:
        model.run_with_iobinding(binding)
    times, start = [], time.perf_counter()
    while time.perf_counter() - start < float(flags["duration"]) or len(times) < int(flags["iterations"]):
        before = (time.perf_counter() - start) * 1e3
        model.run_with_iobinding(binding)
        after = (time.perf_counter() - start) * 1e3
        times.append((before, after))
    took = time.perf_counter() - start
    ms = [after - before for before, after in times]
    say(f"Warmup completed 10 queries over {flags['warmUp']} ms")
    say(f"Timing trace has {len(ms)} queries over {took:g} s")
    say("")
    say("=== Trace details ===")
    say("Average on 100 runs - GPU latency: 1 ms - Host latency: 1 ms (enqueue 1 ms)")
    say("=== Performance summary ===")
    say(f"Throughput: {len(ms) / took:g} qps")
    line("Latency", [1.1 * value for value in ms])
    if not NEW:
        line("End-to-End Host Latency", [2.0 * value for value in ms])
    line("Enqueue Time", [0.1 * value + 1e-4 for value in ms])
    line("H2D Latency", [1e-3, 2e-3])
    line("GPU Compute Time", ms)
    line("D2H Latency", [1e-3, 2e-3])
    say(f"Total Host Walltime: {took:g} s")
    say(f"Total GPU Compute Time: {sum(ms) / 1e3:g} s")
    if "@UNSTABLE@" == "yes":
        say("* GPU compute time is unstable, with coefficient of variance = 12.3891%.", "W")
    edges = ('"startEnqMs" : %g, "endEnqMs" : %g, "startH2dMs" : %g, "endH2dMs" : %g, "startComputeMs" : %.6f, "endComputeMs" : %.6f, '
             '"startD2hMs" : %g, "endD2hMs" : %g, "h2dMs" : 0, "computeMs" : %.6f, "d2hMs" : 0, "latencyMs" : %.6f')
    entries = ["{ " + edges % (a, b, a, a, a, b, b, b, b - a, 1.1 * (b - a)) + " }" for a, b in times]
    with open(flags["exportTimes"], "w") as stream:
        stream.write("[\\n  " + "\\n, ".join(entries) + "\\n]\\n")

main()
'''

TEGRASTATS = """#!/bin/sh
while :; do
echo '07-29-2026 18:00:27 RAM 2272/7620MB (lfb 4x4MB) SWAP 221/3810MB (cached 0MB) CPU [0%@729,0%@1036,off] GR3D_FREQ 0% cpu@54.937C soc2@55.562C soc0@56.156C gpu@55.468C tj@56.656C soc1@56.656C VDD_IN 4673mW/4673mW VDD_CPU_GPU_CV 527mW/527mW VDD_SOC 1339mW/1339mW'
sleep 0.1
done
"""

NVPMODEL = """#!/bin/sh
[ "$1" = -q ] && printf 'NV Power Mode: MAXN_SUPER\\n2\\n'
"""

JETSON_CLOCKS = """#!/bin/sh
state=@STATE@
case "$1" in
--store) [ -e "$2" ] && exit 1; cp "$state" "$2" ;;
--restore) sleep 0.2; cp "$2" "$state.new"; mv "$state.new" "$state" ;;
--show) low=$(cat "$state")
printf 'SOC family:tegra234  Machine:NVIDIA Jetson Orin Nano Developer Kit\\nOnline CPUs: 0-1\\n'
for cpu in 0 1; do echo "cpu$cpu: Online=1 Governor=schedutil MinFreq=$low MaxFreq=1728000 CurrentFreq=$low IdleStates: WFI=1 c7=1 "; done
printf 'cpu2: Online=0 Governor=schedutil MinFreq=729600 MaxFreq=1728000 CurrentFreq=729600 IdleStates: WFI=1 c7=1\\n'
echo "GPU MinFreq=${low}000 MaxFreq=1728000000 CurrentFreq=${low}000"
printf 'EMC MinFreq=204000000 MaxFreq=3199000000 CurrentFreq=2133000000 FreqOverride=0\\nNV Power Mode: MAXN_SUPER\\n' ;;
'') echo 1728000 > "$state.new"; mv "$state.new" "$state" ;;
*) exit 2 ;;
esac
"""

SUDO = """#!/bin/sh
[ "$1" = -n ] || { echo "it was asked without -n" >&2; exit 9; }
shift
exec "$@"
"""

NO_SUDO = """#!/bin/sh
echo 'sudo: a password is required' >&2
exit 1
"""


def trtexec(python: str, number: str, unstable: bool = False) -> str:
    """The program, for an interpreter and a version as `100300`."""
    text = TRTEXEC.replace("@NUMBER@", number).replace("@UNSTABLE@", "yes" if unstable else "no")
    return f"#!/bin/sh\nexec '{python}' -c '{_quoted(text)}' \"$@\"\n"


def _quoted(text: str) -> str:
    return text.replace("'", "'\"'\"'")
