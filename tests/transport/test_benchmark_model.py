"""Outputs of benchmark_model: every generation read, and never a number that was not measured."""

from __future__ import annotations

import struct

import pytest
from conftest import one_line
from hypothesis import given
from hypothesis import strategies as st

from nasvit_edge.errors import MeasurementError
from nasvit_edge.transport.outputs.benchmark_model import known_flags, parse, trouble
from nasvit_edge.transport.outputs.delegation import gpu_fallback, op_profile
from nasvit_edge.transport.outputs.result_file import ToolResult

# documentation of NobuoTsukamoto/meta-tensorflow-lite
OLD = """STARTING!
Log parameter values verbosely: [0]
Num threads: [4]
Graph: [./mobilenet_v1_1.0_224.tflite]
#threads used for CPU inference: [4]
Loaded model ./mobilenet_v1_1.0_224.tflite
The input model file size (MB): 16.9008
Initialized session in 17.187ms.
Running benchmark for at least 1 iterations and at least 0.5 seconds but terminate if exceeding 150 seconds.
count=1 curr=3512391

Running benchmark for at least 50 iterations and at least 1 seconds but terminate if exceeding 150 seconds.
count=50 first=2990275 curr=2913402 min=2727568 max=3189954 avg=2.95034e+06 std=109798

Inference timings in us: Init: 17187, First inference: 3512391, Warmup (avg): 3.51239e+06, Inference (avg): 2.95034e+06
Note: as the benchmark tool itself affects memory footprint, the following is only APPROXIMATE to the actual memory footprint of the model at runtime. Take the information at your discretion.
Memory footprint delta from the start of the tool (MB): init=4.21094 overall=46.0859
"""
# the build instructions of google-ai-edge/LiteRT
LITERT = """INFO: STARTING!
INFO: [litert/tools/benchmark_litert_model.cc:137] Loading model from: blaze_face_short_range.tflite
INFO: Created TensorFlow Lite XNNPACK delegate for CPU.
INFO: Initialized session in 5.757ms.
INFO: Running benchmark for at least 1 iterations and at least 0.5 seconds but terminate if exceeding 150 seconds.
INFO: count=526 first=2125 curr=969 min=910 max=2125 avg=949.861 std=68 p5=915 median=939 p95=990

INFO: Running benchmark for at least 50 iterations and at least 1 seconds but terminate if exceeding 150 seconds.
INFO: count=1054 first=1015 curr=942 min=910 max=1102 avg=947.132 std=23 p5=915 median=942 p95=991

INFO: [./litert/tools/benchmark_litert_model.h:72]
========== BENCHMARK RESULTS ==========
INFO: [./litert/tools/benchmark_litert_model.h:73] Model initialization: 5.76 ms
INFO: [./litert/tools/benchmark_litert_model.h:75] Warmup (first):       2.12 ms
INFO: [./litert/tools/benchmark_litert_model.h:77] Warmup (avg):         0.95 ms (526 runs)
INFO: [./litert/tools/benchmark_litert_model.h:79] Inference (avg):      0.95 ms (1054 runs)
INFO: [./litert/tools/benchmark_litert_model.h:83] Inference (min):      0.91 ms
INFO: [./litert/tools/benchmark_litert_model.h:85] Inference (max):      1.10 ms
INFO: [./litert/tools/benchmark_litert_model.h:87] Inference (std):      0.02
INFO: [./litert/tools/benchmark_litert_model.h:94] Throughput:           197.97 MB/s
INFO: [./litert/tools/benchmark_litert_model.h:103]
Memory Usage:
INFO: [./litert/tools/benchmark_litert_model.h:105] Init footprint:       4.06 MB
INFO: [./litert/tools/benchmark_litert_model.h:114] Peak memory usage not available. (peak_mem_mb <= 0)
"""
# issue 1134 of mlcommons/mobile_app_open: without `count=` lines
BLOCK = """========== BENCHMARK RESULTS ==========
INFO: [benchmark_litert_model.h:92] Signature name:       prefill_1024
INFO: [benchmark_litert_model.h:94] Model initialization: 23744.73 ms
INFO: [benchmark_litert_model.h:96] Warmup (first):       7441.04 ms
INFO: [benchmark_litert_model.h:98] Warmup (avg):         7441.04 ms (1 runs)
INFO: [benchmark_litert_model.h:100] Inference (avg):      7430.20 ms (10 runs)
INFO: [benchmark_litert_model.h:104] Inference (min):      7416.40 ms
INFO: [benchmark_litert_model.h:106] Inference (max):      7448.86 ms
INFO: [benchmark_litert_model.h:108] Inference (std):      9.92
INFO: [benchmark_litert_model.h:115] Throughput:           27.46 MB/s
INFO: [benchmark_litert_model.h:126] Init footprint:       6391.74 MB
INFO: [benchmark_litert_model.h:135] Peak memory usage not available. (peak_mem_mb <= 0)
"""
PERCENTILES = OLD.replace(
    "count=50 first=2990275 curr=2913402 min=2727568 max=3189954 avg=2.95034e+06 std=109798",
    "count=25 first=187533 curr=140990 min=140071 max=195121 avg=145528 std=13583 p5=140545 median=141253 p95=187533",
).replace("Inference (avg): 2.95034e+06", "Inference (avg): 145528")
ALL = {"old": OLD, "percentiles": PERCENTILES, "litert": LITERT, "block": BLOCK}


def message(avg=0.947132, median=0.942, runs=1054, low=0.91, p95=0.991, high=1.102):
    """A BenchmarkResult, by the field numbers of benchmark_result.proto."""
    floats = [avg, low, high, 0.02, median, 0.915, p95, 5.757, 2.125, 0.949]
    latency = b"".join(bytes([n << 3 | 5]) + struct.pack("<f", v) for n, v in enumerate(floats, 1))
    misc = b"\x0d" + struct.pack("<f", 0.2) + b"\x10" + bytes([runs & 127 | 128, runs >> 7]) + b"\x18\x02"
    return (
        b"\x0a\x03abc\x12"
        + bytes([len(latency)])
        + latency
        + b"\x1a\x03\x08\x80\x01\x22"
        + bytes([len(misc)])
        + misc
    )


def refused(function, *arguments, match=""):
    with pytest.raises(MeasurementError, match=match) as error:
        function(*arguments)
    return one_line(error)


def test_the_old_output_gives_the_mean_of_the_timed_runs():
    launch = parse(OLD)
    assert (launch.generation, launch.count, launch.median_us) == ("classic", 50, None)
    assert launch.latency_us == 2.95034e6
    assert (launch.init_us, launch.first_us) == (17187, 3512391)
    assert not launch.coarse


def test_where_there_are_percentiles_the_median_is_taken():
    assert parse(PERCENTILES).latency_us == 141253
    assert parse(LITERT).latency_us == 942
    assert parse(LITERT).generation == "litert"
    assert parse(LITERT).first_us == 2125


def test_a_block_without_count_lines_is_good_to_its_two_decimals():
    launch = parse(BLOCK)
    assert (launch.latency_us, launch.count, launch.init_us) == (7430200, 10, 23744730)
    assert not launch.coarse
    short = BLOCK.replace("7430.20", "0.11").replace("7416.40", "0.10").replace("7448.86", "0.14")
    assert parse(short).coarse
    refused(parse, short.replace("0.11", "0.00").replace("0.10", "0.00"), match="too short")


def test_short_models_take_the_mean_which_has_fractions_but_never_one_that_slow_runs_pulled_away():
    line = "count=100 first=4 curr=3 min=3 max={high} avg={avg} std=1 p5=3 median=3 p95=4"
    for avg, expected, coarse in (("3.42", 3.42, False), ("9.5", 4.0, True)):
        text = _timed(line.format(high=700, avg=avg), avg)
        assert parse(text).latency_us == expected
        assert parse(text).coarse is coarse


def _timed(line, avg, warm="count=3 first=9 curr=8 min=7 max=9 avg=8 std=1", first="9"):
    return f"{warm}\n\n{line}\nInference timings in us: Init: 5, First inference: {first}, Warmup (avg): 8, Inference (avg): {avg}\n"


def test_equal_samples_have_one_figure():
    for count, line in (
        (1, "count=1 curr=5"),
        (7, "count=7 curr=5(all same)"),
        (7, "count=7 curr=5(all same) p5=5 median=5 p95=5"),
    ):
        launch = parse(_timed(line, "5"))
        assert (launch.count, launch.latency_us, launch.min_us, launch.max_us) == (count, 5, 5, 5)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("prefix", ["", "07-28 12:00:01.123  4000  4001 I tflite  : ", "INFO: "])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r\r\n"])
def test_line_ends_and_prefixes_of_logs_change_nothing(name, prefix, end):
    text = end.join(f"{prefix}{line}" for line in ALL[name].splitlines())
    assert parse(text) == parse(ALL[name])


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "it printed nothing"),
        ("STARTING!\nERROR: Failed to load model x\nERROR: Benchmarking failed.", "Failed to load model x"),
        ("WARN: Unconsumed cmdline flags: --use_xnn=1\n" + OLD, "does not know '--use_xnn=1'"),
        (OLD[: OLD.index("Inference timings")], "did not finish"),
        (OLD.replace("count=1 curr=3512391\n", ""), "printed 1 'count=' lines"),
        (OLD + "count=3 curr=4\n", "printed 3 'count=' lines"),
        (OLD.replace("avg=2.95034e+06", "mean=2.95034e+06"), "not understood: 'count=50 .*mean="),
        (OLD.replace("avg=2.95034e+06", "avg=2.95034e+06ms"), "not understood"),
        (OLD.replace("avg=2.95034e+06", "avg=2950.34"), "contradict"),
        (OLD.replace("Inference (avg): 2.95034e+06", "Inference (avg): 2950.34"), "contradicts itself"),
        (OLD.replace("count=50 first", "count=0 first"), "contradict"),
        (OLD.replace("avg=2.95034e+06", "avg=nan"), "not understood"),
        (OLD.replace("avg=2.95034e+06", "avg=1e999"), "not understood"),
        (PERCENTILES.replace("median=141253 ", ""), "not understood"),
        (PERCENTILES.replace("median=141253", "median=14.1253"), "contradict"),
        (BLOCK.replace("7430.20 ms", "7430.20 us"), "not understood.*7430.20 us"),
        (BLOCK.replace("7430.20 ms", "7430,20 ms"), "not understood"),
        (BLOCK.replace("(10 runs)", ""), "timed no run"),
        (BLOCK.replace("Inference (min):      7416.40 ms\n", "No inference runs were performed.\n"), "timed no run"),
        (BLOCK.replace("7416.40", "7.42"), ""),
        (BLOCK.replace("7416.40", "8000.00"), "not understood"),
        (LITERT.replace("Inference (avg):      0.95", "Inference (avg):      0.55"), "not understood|contradicts itself"),
        (LITERT.replace("(1054 runs)", "(1055 runs)"), "contradicts itself"),
    ],
)  # fmt: skip
def test_what_is_not_understood_is_an_error_with_the_line(text, match):
    if match:
        refused(parse, text, match=match)
    else:  # a wide spread is none of our business
        assert parse(text).latency_us == 7430200


def test_the_result_file_gives_the_fractions():
    launch = parse(LITERT, message())
    assert launch.latency_us == pytest.approx(942)
    short = LITERT.replace("count=1054", "count=1054").replace("median=942", "median=942")
    assert parse(short, message()).avg_us == pytest.approx(947.132, rel=1e-6)


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"", "no result"),
        (b"\xff" * 20, "no result"),
        (message()[:-3], "no result"),
        (message(avg=947.132), "wrote 947132"),
        (message(runs=1053), "1053 runs"),
        (message(avg=float("nan")), "impossible"),
        (message(avg=0.0), "impossible"),
        (message(median=2.0), "impossible"),
        (b"x" * 100_000, "no result"),
    ],
)
def test_a_result_file_of_other_runs_is_an_error(data, match):
    refused(parse, LITERT, data, match=match)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_result_or_an_error(data):
    try:
        launch = ToolResult.parse(data)
    except MeasurementError as error:
        one_line(error)
    else:
        assert 0 < launch.avg_us < float("inf")


@given(st.data())
def test_a_damaged_result_file_gives_no_wrong_number(data):
    whole = bytearray(message())
    at = data.draw(st.integers(0, len(whole) - 1))
    whole[at] = data.draw(st.integers(0, 255))
    try:
        launch = parse(LITERT, bytes(whole))
    except MeasurementError as error:
        one_line(error)
    else:  # what cannot be told is only a digit, or a median that is still between p5 and p95
        assert 905 <= launch.latency_us <= 995


_WORDS = st.sampled_from(
    [
        *LITERT.split(),
        *OLD.split(),
        "count=",
        "=",
        "1e5",
        "-3",
        "nan",
        "inf",
        "(all same)",
        "ms",
        "us",
        "\r",
        "\n",
        "count=1",
    ]
)


@given(st.one_of(st.text(max_size=300), st.lists(_WORDS, max_size=80).map(" ".join)))
def test_any_text_is_a_latency_or_one_line(text):
    for function in (parse, op_profile):
        try:
            function(text)
        except MeasurementError as error:
            one_line(error)
    assert gpu_fallback(text, strict=False) is None or "\n" not in trouble(text.splitlines())
    known_flags(text)


@given(st.sampled_from(sorted(ALL)), st.data())
def test_a_lost_or_changed_line_gives_the_right_number_or_none(name, data):
    lines = ALL[name].splitlines()
    at = data.draw(st.integers(0, len(lines) - 1))
    change = data.draw(st.sampled_from(["drop", "cut", "twice"]))
    line = lines[at]
    lines[at : at + 1] = {
        "drop": [],
        "cut": [line[: data.draw(st.integers(0, len(line)))]],
        "twice": [line, line],
    }[change]
    try:
        launch = parse("\n".join(lines))
    except MeasurementError as error:
        one_line(error)
    else:
        allowed = parse(ALL[name])
        assert launch.latency_us in (allowed.latency_us, allowed.avg_us)  # percentiles may be cut off


def test_the_line_that_says_why_is_found():
    assert (
        trouble(["STARTING!", "ERROR: Failed to open x", "ERROR: Benchmarking failed."])
        == "'ERROR: Failed to open x'"
    )
    assert "\n" not in trouble(["a\x00b", "ERROR: \x1b[31m"])


HELP = "usage: ./benchmark_model <flags>\nFlags:\n\t--num_runs=50\tint32\toptional\texpected\n\t--graph=\tstring\trequired\tsee --min_secs\n"


def test_flags_are_those_that_help_lists():
    assert known_flags(HELP) == {"num_runs", "graph"}


# -- delegation ----------------------------------------------------------------------------------------------

WHOLE = "VERBOSE: Replacing 49 out of 49 node(s) with delegate (TfLiteGpuDelegateV2) node, yielding 1 partitions for subgraph 0."
CPU = "Replacing 539 out of 548 node(s) with delegate (TfLiteXNNPackDelegate) node, yielding 19 partitions for subgraph 0."


@pytest.mark.parametrize(
    "text",
    [
        WHOLE,
        "INFO: Explicitly applied GPU delegate, and the model graph will be completely executed by the delegate.",
        "Applied GPU delegate.",
    ],
)
def test_a_delegate_that_took_the_graph_says_so(text):
    assert gpu_fallback(f"STARTING!\r\n{text}\r\n", strict=False) is None


@pytest.mark.parametrize(
    "text",
    [
        "Though GPU delegate is explicitly applied, the model graph will not be executed by the delegate.",
        "Explicitly applied GPU delegate, and the model graph will be partially executed by the delegate w/ 3 delegate kernels.",
        WHOLE.replace("49 out of", "48 out of"),
        "ERROR: Disallowed CPU fallback detected.",
        "Following operations are not supported by GPU delegate:",
        "40 operations will run on the GPU, and the remaining 9 operations will run on the CPU.",
        "ERROR: Some ops are not accelerated. Add kLiteRtHwAcceleratorCpu to ...",
        "ERROR: TfLiteGpuDelegate Init: No GPU found, failed",
    ],
)
@pytest.mark.parametrize("strict", [False, True])
def test_a_fallback_is_seen_whatever_else_is_said(text, strict):
    assert gpu_fallback(f"{WHOLE}\n{text}\nApplied GPU delegate.", strict)


def test_without_a_word_of_it_there_was_no_gpu():
    assert gpu_fallback(OLD, strict=False)
    assert gpu_fallback(CPU + OLD, strict=False)
    assert gpu_fallback(CPU, strict=True), "a program without a CPU says that it has a GPU"
    assert (
        gpu_fallback(
            CPU + "INFO: [gpu_registry.cc:87] Statically linked GPU accelerator registered.", strict=True
        )
        is None
    )


# -- op profiles ---------------------------------------------------------------------------------------------

# documentation of NobuoTsukamoto/meta-tensorflow-lite, shortened
PROFILE = """Profiling Info for Benchmark Initialization:
============================== Run Order ==============================
\t             [node type]\t          [start]\t  [first]\t [avg ms]\t     [%]\t  [cdf%]\t  [mem KB]\t[times called]\t[Name]
\t         AllocateTensors\t            0.000\t    1.356\t    1.356\t100.000%\t100.000%\t     0.000\t        1\tAllocateTensors/0

Number of nodes executed: 1
Timings (microseconds): count=1 curr=1356
Memory (bytes): count=0
1 nodes observed



Operator-wise Profiling Info for Regular Benchmark Runs:
============================== Run Order ==============================
\t             [node type]\t          [start]\t  [first]\t [avg ms]\t     [%]\t  [cdf%]\t  [mem KB]\t[times called]\t[Name]
\t                 CONV_2D\t            0.066\t   87.754\t   60.957\t  2.066%\t  2.066%\t     0.000\t        1\t[MobilenetV1/MobilenetV1/Conv2d_0/Relu6]:0
\t       DEPTHWISE_CONV_2D\t           61.033\t   53.628\t   49.870\t  1.691%\t  3.757%\t     0.000\t        1\t[MobilenetV1/MobilenetV1/Conv2d_1_depthwise/Relu6, a b]:1

============================== Top by Computation Time ==============================
\t             [node type]\t          [start]\t  [first]\t [avg ms]\t     [%]\t  [cdf%]\t  [mem KB]\t[times called]\t[Name]
\t                 CONV_2D\t            0.066\t   87.754\t   60.957\t  2.066%\t  2.066%\t     0.000\t        1\t[MobilenetV1/MobilenetV1/Conv2d_0/Relu6]:0

Number of nodes executed: 2
============================== Summary by node type ==============================
\t             [Node type]\t  [count]\t  [avg ms]\t    [avg %]\t    [cdf %]\t  [mem KB]\t[times called]
\t                 CONV_2D\t        1\t    60.957\t    2.066%\t     2.066%\t     0.000\t        1

Timings (microseconds): count=50 first=1 curr=2 min=1 max=3 avg=2 std=0
Memory (bytes): count=0
2 nodes observed
"""
# a newer build: no [start], kinds of several words
NEWER = """INFO: Operator-wise Profiling Info for Regular Benchmark Runs:
============================== Run Order ==============================
                                     [node type]          [first]        [avg ms]            [%]          [cdf%]          [mem KB]        [times called]  [Name]
                                        QUANTIZE            0.199           0.203         1.328%          1.328%             0.000                1       [tfl.quantize]:0
                   Convolution (NHWC, QC8) IGEMM            0.398           0.407         2.658%          3.986%             0.000                1       Delegate/Convolution (NHWC, QC8) IGEMM:0
                  Convolution (NHWC, QC8) DWConv            0.428           0.051         4.317%          8.304%             0.000               13       Delegate/Convolution (NHWC, QC8) DWConv:1

Number of nodes executed: 3
"""


def test_the_profile_of_the_timed_runs_is_read_not_that_of_the_start():
    first, second = op_profile(PROFILE)
    assert (first.kind, first.avg_ms, first.times) == ("CONV_2D", 60.957, 1)
    assert first.share == pytest.approx(0.02066)
    assert second.name == "[MobilenetV1/MobilenetV1/Conv2d_1_depthwise/Relu6, a b]:1"


def test_a_newer_profile_has_other_columns():
    rows = op_profile(NEWER.replace("\n", "\r\n"))
    assert [(row.kind, row.avg_ms, row.times) for row in rows] == [
        ("QUANTIZE", 0.203, 1),
        ("Convolution (NHWC, QC8) IGEMM", 0.407, 1),
        ("Convolution (NHWC, QC8) DWConv", 0.051, 13),
    ]


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (OLD, "no op profile"),
        (NEWER.replace("[avg ms]", "[avg us]"), "not understood"),
        (NEWER.replace("executed: 3", "executed: 4"), "has 3 rows, not 4"),
        (NEWER.replace("0.407", "much"), "not understood: 'Convolution"),
        (NEWER[: NEWER.index("  QUANTIZE")], "has 0 rows"),
    ],
)
def test_a_profile_that_is_not_understood_is_an_error(text, match):
    refused(op_profile, text, match=match)


def test_profiles_do_not_hide_the_latency():
    assert parse(OLD + PROFILE).latency_us == parse(OLD).latency_us
