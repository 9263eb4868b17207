"""Names of Arm cores by the implementer and part that /proc/cpuinfo tells of each. Standard library of Python 3.8.

Numbers as in the Main ID Register (MIDR_EL1); sources: Arm's technical reference manuals, Linux's arch/arm64/include/asm/cputype.h, and the
list of util-linux's `lscpu`.
"""

from __future__ import annotations

_CORTEX = {
    0xC05: "A5",
    0xC07: "A7",
    0xC08: "A8",
    0xC09: "A9",
    0xC0D: "A12",
    0xC0E: "A17",
    0xC0F: "A15",
    0xC14: "R4",
    0xC15: "R5",
    0xC17: "R7",
    0xC18: "R8",
    0xD13: "R52",
    0xD15: "R82",
    0xD16: "R52+",
    0xD01: "A32",
    0xD02: "A34",
    0xD03: "A53",
    0xD04: "A35",
    0xD05: "A55",
    0xD06: "A65",
    0xD43: "A65AE",
    0xD07: "A57",
    0xD08: "A72",
    0xD09: "A73",
    0xD0A: "A75",
    0xD0B: "A76",
    0xD0E: "A76AE",
    0xD0D: "A77",
    0xD41: "A78",
    0xD42: "A78AE",
    0xD4B: "A78C",
    0xD44: "X1",
    0xD4C: "X1C",
    0xD46: "A510",
    0xD47: "A710",
    0xD48: "X2",
    0xD4D: "A715",
    0xD4E: "X3",
    0xD80: "A520",
    0xD88: "A520AE",
    0xD81: "A720",
    0xD89: "A720AE",
    0xD82: "X4",
    0xD85: "X925",
    0xD87: "A725",
    0xD8F: "A320",
}
_NEOVERSE = {
    0xD0C: "N1",
    0xD49: "N2",
    0xD8E: "N3",
    0xD40: "V1",
    0xD4F: "V2",
    0xD84: "V3",
    0xD83: "V3AE",
    0xD4A: "E1",
}
_ARM = {
    0xB02: "ARM11 MPCore",
    0xB36: "ARM1136",
    0xB56: "ARM1156",
    0xB76: "ARM1176",
    **{part: f"Cortex-{name}" for part, name in _CORTEX.items()},
    **{part: f"Neoverse {name}" for part, name in _NEOVERSE.items()},
    0xD8A: "C1-Nano",
    0xD8B: "C1-Pro",
    0xD90: "C1-Premium",
    0xD8C: "C1-Ultra",
}
_APPLE = {  # by efficiency and performance core
    0x020: "Icestorm (A14)",
    0x021: "Firestorm (A14)",
    0x030: "Blizzard (A15)",
    0x031: "Avalanche (A15)",
    0x022: "Icestorm (M1)",
    0x023: "Firestorm (M1)",
    0x032: "Blizzard (M2)",
    0x033: "Avalanche (M2)",
    0x024: "Icestorm (M1 Pro)",
    0x025: "Firestorm (M1 Pro)",
    0x028: "Icestorm (M1 Max)",
    0x029: "Firestorm (M1 Max)",
    0x034: "Blizzard (M2 Pro)",
    0x035: "Avalanche (M2 Pro)",
    0x038: "Blizzard (M2 Max)",
    0x039: "Avalanche (M2 Max)",
    0x036: "Sawtooth (A16)",
    0x037: "Everest (A16)",
    0x048: "Sawtooth (M3 Max)",
    0x049: "Everest (M3 Max)",
}
_KRYO = {0x201: "Silver", 0x205: "Gold", 0x211: "Silver"}  # of the Snapdragon 820 and 821
_QUALCOMM = {
    0x001: "Oryon",
    0x00F: "Scorpion",
    0x02D: "Scorpion",
    0x04D: "Krait",
    0x06F: "Krait",
    **{part: f"Kryo {name}" for part, name in _KRYO.items()},
    0x800: "Kryo 2XX Gold",
    0x801: "Kryo 2XX Silver",
    0x802: "Kryo 3XX Gold",
    0x803: "Kryo 3XX Silver",
    0x804: "Kryo 4XX Gold",
    0x805: "Kryo 4XX Silver",
    0xC00: "Falkor",
    0xC01: "Saphira",
}
_CAVIUM = {
    0x0A0: "ThunderX",
    0x0A1: "ThunderX 88XX",
    0x0A2: "ThunderX 81XX",
    0x0A3: "ThunderX 83XX",
    0x0AF: "ThunderX2",
    0x0B8: "ThunderX3",
    0x0B0: "OcteonTX2",
    0x0B1: "OcteonTX2 98XX",
    0x0B2: "OcteonTX2 96XX",
    0x0B3: "OcteonTX2 95XX",
    0x0B4: "OcteonTX2 95XXN",
    0x0B5: "OcteonTX2 95XXMM",
}
_PHYTIUM = {part: f"FTC{part:x}" for part in (0x660, 0x661, 0x662, 0x663, 0x664, 0x862)}
IMPLEMENTERS = {
    0x41: ("Arm", _ARM),
    0x42: ("Broadcom", {0x00F: "Brahma-B15", 0x100: "Brahma-B53", 0x516: "Vulcan"}),
    0x43: ("Cavium", _CAVIUM),
    0x46: ("Fujitsu", {0x001: "A64FX", 0x003: "MONAKA"}),
    0x48: ("HiSilicon", {0xD01: "TaiShan v110", 0xD02: "TaiShan v120", 0xD40: "Cortex-A76 (HiSilicon)"}),
    0x4E: ("NVIDIA", {0x000: "Denver", 0x003: "Denver 2", 0x004: "Carmel", 0x010: "Olympus"}),
    0x50: ("APM", {0x000: "X-Gene"}),
    0x51: ("Qualcomm", _QUALCOMM),
    0x53: ("Samsung", {0x001: "Exynos M1", 0x002: "Exynos M3", 0x003: "Exynos M4", 0x004: "Exynos M5"}),
    0x56: ("Marvell", {0x131: "Feroceon", 0x581: "PJ4", 0x584: "PJ4B-MP"}),
    0x61: ("Apple", _APPLE),
    0x66: ("Faraday", {0x526: "FA526", 0x626: "FA626"}),
    0x69: ("Intel", {}),
    0x6D: ("Microsoft", {0xD49: "Azure Cobalt 100"}),
    0x70: ("Phytium", {0x303: "FTC310", **_PHYTIUM}),
    0xC0: ("Ampere", {0xAC3: "AmpereOne", 0xAC4: "AmpereOne A", 0xAC5: "AmpereOne B"}),
}


def core_name(implementer: int, part: int) -> str:
    """`Neoverse N1`; of a part that is not known its number, so that two of them stay apart: `Arm part 0xd99`."""
    maker, parts = IMPLEMENTERS.get(implementer, (f"implementer 0x{implementer:02x}", {}))
    return parts.get(part, f"{maker} part 0x{part:03x}")


def core_names(cpuinfo: str) -> str:
    """The kinds of core that a /proc/cpuinfo tells, each once in their order, as `Cortex-A55 + Cortex-A76`; empty where it tells none."""
    names, implementer = [], None
    for line in cpuinfo.splitlines():
        key, _, value = line.partition(":")
        number = _number(value) if key.strip() in ("CPU implementer", "CPU part") else None
        if number is None:
            continue
        if key.strip() == "CPU implementer":
            implementer = number
        elif implementer is not None:
            names.append(core_name(implementer, number))
    return " + ".join(dict.fromkeys(names))


def _number(text: str) -> int | None:
    try:
        number = int(text.strip(), 16)
    except ValueError:
        return None
    return number if 0 <= number < 1 << 16 else None
