"""A `benchmark_model` for tests: flags and outputs of each generation of the real one, timing the model it is given.

As a program it hands its arguments to a server that has LiteRT loaded, which forks for each launch; so a launch takes
milliseconds. `program` writes it for one generation.
"""

import array
import os
import socket
import sys
import time

GENERATION = "percentiles"  # "old", "percentiles" or "litert"
SOCKET = "BENCHMARK_MODEL_SOCKET"  # the environment variable with the server's path
STANDARD = {
    "graph": "", "num_threads": "-1", "num_runs": "50", "min_secs": "1", "max_secs": "150", "warmup_runs": "1",
    "warmup_min_secs": "0.5", "use_gpu": "false", "require_full_delegation": "false", "help": "false",
}  # fmt: skip
MORE = {
    "old": {"enable_op_profiling": "false"},
    "percentiles": {"enable_op_profiling": "false", "use_xnnpack": "false"},
    "litert": {"use_cpu": "true", "use_npu": "false", "use_profiler": "false", "result_file_path": ""},
}
TRUE = ("true", "1")


def flags_of(arguments, generation):
    """Flag -> value, and what is no flag of this build."""
    values, unknown = STANDARD | MORE[generation], []
    for argument in arguments:
        name, _, value = argument.removeprefix("--").partition("=")
        if argument.startswith("--") and name in values:
            values[name] = value or "true"
        else:
            unknown.append(argument)
    return values, unknown


def usage(generation):
    lines = [
        f"\t--{name}={value}\tstring\toptional\twhat the real one says"
        for name, value in (STANDARD | MORE[generation]).items()
    ]
    return "usage: ./benchmark_model <flags>\nFlags:\n" + "\n".join(lines)


def statistics(samples, percentiles):
    """A `count=` line, as Stat::OutputToStream writes it."""
    whole = [int(s) for s in samples]
    if len(set(whole)) == 1:
        text = f"count={len(whole)} curr={whole[-1]}" + ("(all same)" if len(whole) > 1 else "")
    else:
        mean = sum(whole) / len(whole)
        spread = (sum((s - mean) ** 2 for s in whole) / len(whole)) ** 0.5
        text = f"count={len(whole)} first={whole[0]} curr={whole[-1]} min={min(whole)} max={max(whole)} avg={mean:g} std={spread:.0f}"
    if percentiles:
        ordered = sorted(whole)
        p5, median, p95 = (ordered[int(q / 100 * (len(ordered) - 1))] for q in (5, 50, 95))
        text += f" p5={p5} median={median} p95={p95}"
    return text


def run(arguments, generation, say):
    """The program: exit code."""
    values, unknown = flags_of(arguments, generation)
    info = "" if generation == "old" else "INFO: "
    say(f"{info}STARTING!")
    if values["help"] in TRUE:
        say(usage(generation))
        return 1
    if unknown:
        say(f"WARN: Unconsumed cmdline flags: {' '.join(unknown)}")
    gpu, strict = values["use_gpu"] in TRUE, values["require_full_delegation"] in TRUE
    if generation == "litert" and strict and values["use_cpu"] in TRUE:
        say("ERROR: Requesting full delegation and CPU acceleration are incompatible.")
        return 134
    time.sleep(float(os.environ.get("STAND_IN_HANG", "0")))
    if "STAND_IN_CRASH" in os.environ:
        say("ERROR: no kernel for this processor")
        os.kill(os.getpid(), int(os.environ["STAND_IN_CRASH"]))
    trouble = gpu_lines(generation, info, say, strict) if gpu else 0
    return trouble or timed(values, generation, info, say)


def gpu_lines(generation, info, say, strict):
    """What a GPU that does all, some or nothing of a graph makes the program say."""
    kind = os.environ.get("STAND_IN_GPU", "whole")
    if kind == "silent":
        return 0
    if kind == "whole":
        say(
            "VERBOSE: Replacing 49 out of 49 node(s) with delegate (TfLiteGpuDelegateV2) node, yielding 1 partitions for subgraph 0."
        )
        say(
            f"{info}Explicitly applied GPU delegate, and the model graph will be completely executed by the delegate."
        )
        return 0
    if kind == "partial":
        say(
            "VERBOSE: Replacing 54 out of 559 node(s) with delegate (TfLiteGpuDelegateV2) node, yielding 3 partitions for subgraph 0."
        )
    else:
        say(
            "Though GPU delegate is explicitly applied, the model graph will not be executed by the delegate."
        )
    if strict:
        say("ERROR: Disallowed CPU fallback detected.")
        say("ERROR: Benchmarking failed.")
    return 1 if strict else 0


def timed(values, generation, info, say):
    import numpy as np
    from ai_edge_litert.interpreter import Interpreter

    begun = time.perf_counter()
    try:
        interpreter = Interpreter(model_path=values["graph"], num_threads=int(values["num_threads"]))
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        say(f"ERROR: Failed to load the model: {str(error).splitlines()[0]}")
        say("ERROR: Benchmarking failed.")
        return 1
    init_us = (time.perf_counter() - begun) * 1e6
    for value in interpreter.get_input_details():
        interpreter.set_tensor(
            value["index"], np.random.default_rng(0).normal(size=list(value["shape"])).astype(np.float32)
        )
    say(f"{info}Loaded model {values['graph']}")
    say(f"{info}Initialized session in {init_us / 1e3:g}ms.")
    most = float(values["max_secs"])
    phases = []
    for runs, seconds in (("warmup_runs", "warmup_min_secs"), ("num_runs", "min_secs")):
        least, enough = int(values[runs]), float(values[seconds])
        say(
            f"{info}Running benchmark for at least {least} iterations and at least {enough:g} seconds but terminate if exceeding {most:g} seconds."
        )
        phases.append(sampled(interpreter.invoke, least, enough, most))
        say(f"{info}{statistics(phases[-1], generation != 'old')}\n")
    finish(values, generation, info, say, init_us, *phases)
    return 0


def sampled(invoke, least, enough, most):
    taken, start = [], time.perf_counter()
    while (
        len(taken) < least or time.perf_counter() - start < enough
    ) and time.perf_counter() - start <= most:
        before = time.perf_counter_ns() // 1000  # as the real one: a clock of whole microseconds
        invoke()
        taken.append(time.perf_counter_ns() // 1000 - before)
    return taken


def finish(values, generation, info, say, init_us, warm, taken):
    mean, warm_mean = sum(taken) / len(taken), sum(warm) / len(warm)
    if generation != "litert":
        say(
            f"{info}Inference timings in us: Init: {init_us:.0f}, First inference: {warm[0]}, Warmup (avg): {warm_mean:g}, Inference (avg): {mean:g}"
        )
        say(f"{info}Memory footprint delta from the start of the tool (MB): init=4.21094 overall=46.0859")
    else:
        results(values, say, init_us, warm, taken, mean, warm_mean)
    if values.get("enable_op_profiling") in TRUE or values.get("use_profiler") in TRUE:
        profile(info, say, mean / 1e3)


def results(values, say, init_us, warm, taken, mean, warm_mean):
    place = "INFO: [./litert/tools/benchmark_litert_model.h:{}] "
    say(place.format(72) + "\n========== BENCHMARK RESULTS ==========")
    say(place.format(73) + f"Model initialization: {init_us / 1e3:.2f} ms")
    say(place.format(75) + f"Warmup (first):       {warm[0] / 1e3:.2f} ms")
    say(place.format(77) + f"Warmup (avg):         {warm_mean / 1e3:.2f} ms ({len(warm)} runs)")
    say(place.format(79) + f"Inference (avg):      {mean / 1e3:.2f} ms ({len(taken)} runs)")
    say(place.format(83) + f"Inference (min):      {min(taken) / 1e3:.2f} ms")
    say(place.format(85) + f"Inference (max):      {max(taken) / 1e3:.2f} ms")
    say(place.format(87) + "Inference (std):      0.02")
    say(place.format(94) + "Throughput:           197.97 MB/s")
    if values["result_file_path"]:
        with open(values["result_file_path"], "wb") as stream:  # noqa: PTH123
            stream.write(message(init_us, warm, taken, mean, warm_mean))
        say(place.format(150) + f"Saved benchmark result to: {values['result_file_path']}")


def message(init_us, warm, taken, mean, warm_mean):
    """A BenchmarkResult."""
    import struct

    ordered = sorted(taken)
    percentiles = [ordered[int(q / 100 * (len(ordered) - 1))] for q in (50, 5, 95)]
    us = [mean, ordered[0], ordered[-1], 1.0, *percentiles, init_us, warm[0], warm_mean]
    latency = b"".join(bytes([n << 3 | 5]) + struct.pack("<f", v / 1e3) for n, v in enumerate(us, 1))
    misc = b"\x10" + varint(len(taken)) + b"\x18" + varint(len(warm))
    return b"\x12" + varint(len(latency)) + latency + b"\x22" + varint(len(misc)) + misc


def varint(value):
    data = b""
    while value > 127:
        data, value = data + bytes([value & 127 | 128]), value >> 7
    return data + bytes([value])


def profile(info, say, ms):
    half = f"{ms / 2:9.3f}"
    head = "\t             [node type]\t  [first]\t [avg ms]\t     [%]\t  [cdf%]\t  [mem KB]\t[times called]\t[Name]"
    say(f"{info}Operator-wise Profiling Info for Regular Benchmark Runs:")
    say("============================== Run Order ==============================")
    say(head)
    for number, share in ((0, 50), (1, 100)):
        say(
            f"\t Convolution (NHWC, F32) IGEMM\t{half}\t{half}\t 50.000%\t{share:7.3f}%\t     0.000\t        1\tDelegate/Convolution (NHWC, F32) IGEMM:{number}"
        )
    say("\n============================== Top by Computation Time ==============================")
    say(
        f"{head}\n\nNumber of nodes executed: 2\nTimings (microseconds): count=50 first=1 curr=1 min=1 max=2 avg=1.5 std=0\nMemory (bytes): count=0\n"
    )


def program(path, generation, python):
    """Write the program of a generation; returns its path."""
    source = open(__file__).read().replace('GENERATION = "percentiles"', f'GENERATION = "{generation}"', 1)  # noqa: PTH123, SIM115
    path.write_text(f"#!{python} -IS\n{source}")
    path.chmod(0o755)
    return path


def serve(path):
    """Fork for each launch; the modules that take long are loaded once."""
    import signal

    import ai_edge_litert.interpreter  # noqa: F401
    import numpy  # noqa: F401

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(16)
    print("ready", flush=True)  # noqa: T201
    while True:
        stream, _ = listener.accept()
        if os.fork() == 0:
            answer(stream)
            os._exit(0)
        stream.close()


def answer(stream):
    """One launch, with the client's cores, environment and standard output."""
    import json
    import threading

    data, ancillary, _, _ = stream.recvmsg(65536, socket.CMSG_SPACE(4))
    out = array.array("i", ancillary[0][2])[0]
    asked = json.loads(data)
    os.chdir(asked["folder"])
    os.environ.update(asked["environment"])
    os.sched_setaffinity(0, asked["cores"])

    def watch():  # a client that was killed takes its launch with it
        stream.recv(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    code = run(asked["arguments"], asked["generation"], lambda text: os.write(out, (text + "\n").encode()))
    stream.send(bytes([code]))


def main():
    import json

    stream = socket.socket(socket.AF_UNIX)
    stream.connect(os.environ[SOCKET])
    chosen = {key: value for key, value in os.environ.items() if key.startswith("STAND_IN_")}
    asked = {
        "arguments": sys.argv[1:], "generation": GENERATION, "folder": os.getcwd(),  # noqa: PTH109
        "environment": chosen, "cores": sorted(os.sched_getaffinity(0)),
    }  # fmt: skip
    stream.sendmsg(
        [json.dumps(asked).encode()], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [1]))]
    )
    code = stream.recv(1)
    return code[0] if code else 139


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        serve(sys.argv[2])
    sys.exit(main())
