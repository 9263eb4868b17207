"""The iPhone's app: no Apple tool is here, so that sources parse, the project is whole, and formulas and JSON are right."""

from __future__ import annotations

import plistlib
import re
import statistics
import xml.etree.ElementTree as ET

import pytest
from conftest import require_module
from hypothesis import given
from hypothesis import strategies as st
from reference_coreml import DEVICES, SCHEMA
from reference_coreml import host as host_names
from swift import enum_cases, function, nodes, structs, text, tree

from nasvit_edge.device import load_device
from nasvit_edge.runtimes import RUNTIMES

APP = DEVICES / "iphone"
PROJECT = APP / "NasvitEdgeRunner.xcodeproj"
FOLDER = APP / "NasvitEdgeRunner"
SOURCES = sorted(FOLDER.glob("*.swift"))
MESSAGES, STATISTICS = FOLDER / "Messages.swift", FOLDER / "Statistics.swift"
JSON_TYPES = {
    "String": "string",
    "Int": "integer",
    "UInt64": "integer",
    "Double": "number",
    "Bool": "boolean",
    "Units": "string",
    "Thermal": "string",
}


# --- the sources --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_a_source_parses_without_an_error_and_is_short(path):
    wrong = [
        (n.start_point[0] + 1, text(n)[:60]) for n in nodes(tree(path)) if n.type == "ERROR" or n.is_missing
    ]
    assert wrong == []
    assert len(path.read_text().splitlines()) <= 210
    assert max(map(len, path.read_text().splitlines())) <= 120


def test_nothing_is_declared_twice():
    names = [
        text(node.child_by_field_name("name"))
        for path in SOURCES
        for node in tree(path).children
        if node.type in ("class_declaration", "protocol_declaration") and node.child_by_field_name("name")
        if node.children[0].type != "extension"
    ]
    assert len(names) == len(set(names))
    assert {"Job", "ModelMeasurement", "PullRun", "OfflineRun", "Session"} <= set(names)


@pytest.mark.parametrize("name", ["Messages", "Statistics", "Address"])
def test_protocol_and_statistics_need_foundation_alone(name):
    assert re.findall(r"^import (\w+)", (FOLDER / f"{name}.swift").read_text(), re.MULTILINE) == [
        "Foundation"
    ]


def test_only_frameworks_of_the_system_are_used():
    used = {name for path in SOURCES for name in re.findall(r"^import (\w+)", path.read_text(), re.MULTILINE)}
    apples = {
        "AVFoundation",
        "CoreML",
        "CryptoKit",
        "Foundation",
        "SwiftUI",
        "UIKit",
        "UniformTypeIdentifiers",
    }
    assert used <= apples


# --- what the formulas compute ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def host():
    """The host's runner."""
    return host_names()


TAKEN = st.lists(st.floats(0.1, 1e6), min_size=1, max_size=200)


@given(taken=TAKEN)
def test_the_interval_of_the_median_is_that_of_the_host(host, taken):
    assert function(STATISTICS, "interval")(taken) == host["interval"](taken)


@given(taken=TAKEN)
def test_the_median_is_the_median(taken):
    assert function(STATISTICS, "median")(taken) == statistics.median(taken)


@given(
    taken=TAKEN,
    spent=st.floats(0, 3),
    runs=st.integers(1, 50),
    seconds=st.floats(0, 2),
    most=st.floats(0.1, 3),
    precision=st.floats(0.001, 1),
)
def test_sampling_stops_when_the_hosts_does(host, taken, spent, runs, seconds, most, precision):
    known = {"runs": runs, "seconds": seconds, "mostSeconds": most, "precision": precision}
    over = function(STATISTICS, "isOver", interval=host["interval"], **known)
    enough = len(taken) >= runs and spent >= seconds
    assert over(taken, spent) == (spent > most or (enough and host["interval"](taken) <= precision))


def test_inputs_are_normal_and_follow_from_the_seed():
    body = re.search(r"func uniform\(\) -> Double \{\n(.*?)\n    \}", STATISTICS.read_text(), re.DOTALL)[1]
    *statements, result = [
        line.strip().removeprefix("var ").replace("&+=", "+=").replace("&*", "*")
        for line in body.splitlines()
    ]
    values = {"float": float, "state": 0, "mixed": 0}

    def uniform():
        for statement in statements:
            exec(statement, values)
            values["state"] &= 2**64 - 1
            values["mixed"] &= 2**64 - 1
        return eval(result.removeprefix("return ").replace("Double(", "float("), values)

    first = uniform()
    assert values["mixed"] == 0xE220A8397B1DCDAF  # of SplitMix64 from 0
    uniforms = [first, *(uniform() for _ in range(4000))]
    assert all(0 < value <= 1 for value in uniforms)
    assert abs(statistics.mean(uniforms) - 0.5) < 0.02
    assert "sqrt(-2 * log(uniform()))" in STATISTICS.read_text()
    assert "radius * cos(2 * Double.pi * uniform())" in STATISTICS.read_text()


# --- the messages -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("Job", "job"),
        ("ModelFile", "file"),
        ("ModelMeasurement", "measurement"),
        ("ModelFailure", "error"),
        ("PhoneDescription", "description"),
        ("PhoneState", "state"),
        ("About", "about"),
        ("Conditions", "conditions"),
        ("JobList", "bundle"),
        ("ResultList", "results"),
    ],
)
def test_the_json_of_a_message_is_that_of_the_protocol(name, kind):
    fields, schema = structs(MESSAGES)[name], SCHEMA["$defs"][kind]
    assert fields
    if schema.get("additionalProperties") is False:
        assert set(fields) <= set(schema["properties"])
    for key, (swift_type, _) in fields.items():
        message = schema.get("properties", {}).get(key, {}).get("type")
        if message is not None and swift_type in JSON_TYPES:
            assert JSON_TYPES[swift_type] in ([message] if isinstance(message, str) else message), key
    if kind == "job":  # what the app reads must be sent; `sustained_s` and `max_thermal` may be absent
        required = {*schema["required"], "nonce", "files", "input", "units"}
        assert {key for key, (_, optional) in fields.items() if not optional} <= required
    else:  # what the app writes must hold what is required
        always = {key for key, (_, optional) in fields.items() if not optional}
        assert set(schema.get("required", ())) <= always


def test_the_input_of_a_model_is_that_of_the_protocol():
    assert set(structs(MESSAGES)["ModelInput"]) == set(SCHEMA["$defs"]["input"]["properties"])


def test_units_and_thermal_states_are_those_of_the_protocol():
    properties = SCHEMA["$defs"]["job"]["properties"]
    assert enum_cases(MESSAGES, "Units") == properties["units"]["enum"]
    assert enum_cases(MESSAGES, "Thermal") == properties["max_thermal"]["enum"]
    assert {runtime.units for runtime in RUNTIMES.values()} - {None} == set(properties["units"]["enum"])


def test_flags_and_runtimes_are_those_of_the_protocol():
    phone = (FOLDER / "Phone.swift").read_text()
    flags = re.findall(r'flags\.append\("([^"]+)"\)', phone)
    assert flags
    assert set(flags) <= set(SCHEMA["$defs"]["measurement"]["properties"]["flags"]["items"]["enum"])
    listed = re.search(r"let runtimeNames = \[(.+)\]", phone)[1]
    assert tuple(re.findall(r'"([^"]+)"', listed)) == load_device("iphone").runtimes


def test_the_requests_are_those_of_the_protocol():
    page = (DEVICES / "PROTOCOL.md").read_text()
    asked = re.findall(r'send\(\s*"(GET|POST)", "(\w+)', (FOLDER / "Connection.swift").read_text())
    assert {name for _, name in asked} == {"hello", "job", "file", "result", "beat"}
    for method, name in asked:
        assert f"`{method} BASE/{name}" in page


# --- the project --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def project():
    return require_module("openstep_plist").loads((PROJECT / "project.pbxproj").read_text())


def of_kind(project, kind):
    return {key: value for key, value in project["objects"].items() if value["isa"] == kind}


def test_the_project_builds_every_source_and_refers_to_nothing_else(project):
    objects = project["objects"]
    (phase,) = of_kind(project, "PBXSourcesBuildPhase").values()
    built = [objects[objects[key]["fileRef"]]["path"] for key in phase["files"]]
    assert sorted(built) == [path.name for path in SOURCES]
    for value in of_kind(project, "PBXFileReference").values():
        assert value["sourceTree"] == "BUILT_PRODUCTS_DIR" or (FOLDER / value["path"]).is_file()


def test_every_identifier_of_the_project_is_there_and_reached(project):
    objects, reached, waiting = project["objects"], set(), [project["rootObject"]]
    while waiting:
        key = waiting.pop()
        if key in reached:
            continue
        reached.add(key)
        values = [
            v for value in objects[key].values() for v in (value if isinstance(value, list) else [value])
        ]
        waiting += [v for v in values if isinstance(v, str) and re.fullmatch("[0-9A-F]{24}", v)]
    assert reached == set(objects)


def test_the_settings_are_those_of_an_app_that_anyone_can_sign(project):
    settings = {}
    (target,) = of_kind(project, "PBXNativeTarget").values()
    (whole,) = of_kind(project, "PBXProject").values()
    for owner in (whole, target):
        for key in project["objects"][owner["buildConfigurationList"]]["buildConfigurations"]:
            result = project["objects"][key]
            settings.setdefault(result["name"], {}).update(result["buildSettings"])
    release = settings["Release"]
    assert release["PRODUCT_BUNDLE_IDENTIFIER"] == "com.nasvit-edge.runner"
    assert release["CODE_SIGN_STYLE"] == "Automatic"
    assert release["DEVELOPMENT_TEAM"] == ""
    assert release["IPHONEOS_DEPLOYMENT_TARGET"] == "16.0"
    assert release["SWIFT_OPTIMIZATION_LEVEL"] == "-O"
    assert (APP / release["INFOPLIST_FILE"]).is_file()
    assert "DEBUG" not in str(release.get("SWIFT_ACTIVE_COMPILATION_CONDITIONS"))
    assert (
        settings["Debug"]["SWIFT_ACTIVE_COMPILATION_CONDITIONS"] == "DEBUG"
    )  # in which the app refuses to measure


def test_the_shared_scheme_runs_a_release_without_a_debugger(project):
    scheme = ET.parse(PROJECT / "xcshareddata" / "xcschemes" / "NasvitEdgeRunner.xcscheme").getroot()
    launch = scheme.find("LaunchAction")
    assert launch.get("buildConfiguration") == "Release"
    assert launch.get("selectedDebuggerIdentifier") == ""
    (target,) = of_kind(project, "PBXNativeTarget")
    assert {ref.get("BlueprintIdentifier") for ref in scheme.iter("BuildableReference")} == {target}


def test_what_ios_must_know_is_in_info_plist():
    info = plistlib.loads((FOLDER / "Info.plist").read_bytes())
    for key in ("NSLocalNetworkUsageDescription", "NSCameraUsageDescription"):
        assert len(info[key]) > 30
    transport = info["NSAppTransportSecurity"]
    assert transport["NSAllowsLocalNetworking"] is True
    assert "NSAllowsArbitraryLoads" not in transport
    for network in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"):
        assert transport["NSExceptionDomains"][network] == {"NSExceptionAllowsInsecureHTTPLoads": True}
    assert info["UIFileSharingEnabled"] is True
    assert info["LSSupportsOpeningDocumentsInPlace"] is True
    assert info["CFBundleExecutable"] == "$(EXECUTABLE_NAME)"


def test_the_readme_names_what_is_there():
    readme = (APP / "README.md").read_text()
    for name in re.findall(r"-(?:project|scheme) (\S+)", readme):
        assert name in (PROJECT.name, PROJECT.stem)
    for name in re.findall(r"`(\w+\.swift)`", readme):
        assert (FOLDER / name).is_file()
    arguments = (FOLDER / "Session.swift").read_text()
    for option in ("--url", "--offline"):
        assert f'"{option}"' in arguments
        assert option in readme
    for line in re.findall("NASVIT_EDGE_[A-Z]+", readme):
        assert line in arguments
