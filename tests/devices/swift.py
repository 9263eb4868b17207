"""Reading Swift sources by their syntax tree."""

from __future__ import annotations

import math
import re

from conftest import require_module


def tree(path):
    """The root of a file's syntax tree."""
    library, grammar = require_module("tree_sitter"), require_module("tree_sitter_swift")
    return library.Parser(library.Language(grammar.language())).parse(path.read_bytes()).root_node


def nodes(root):
    """Every node below and with `root`."""
    waiting = [root]
    while waiting:
        node = waiting.pop()
        yield node
        waiting += node.children


def text(node):
    return node.text.decode()


def structs(path):
    """Struct or enum -> {JSON key: (type, whether it may be absent)} of its stored properties."""
    by_name = {}
    for node in nodes(tree(path)):
        if node.type == "class_declaration" and node.children[0].type == "struct":
            body = node.child_by_field_name("body")
            by_name[text(node.child_by_field_name("name"))] = _properties(body)
    return by_name


def _properties(body):
    keys, fields = _coding_keys(body), {}
    for node in body.children:
        if node.type == "property_declaration" and not any(
            c.type == "computed_property" for c in node.children
        ):
            name, kind = re.match(r"(?:let|var) (\w+): (.+)", text(node)).groups()
            fields[keys.get(name, name) if keys else name] = (kind.rstrip("?"), kind.endswith("?"))
            assert not keys or name in keys, f"{name} has no coding key"
    return fields


def _coding_keys(body):
    """Property -> JSON key, as the enum CodingKeys says."""
    keys = {}
    for node in body.children:
        if node.type == "class_declaration" and text(node.child_by_field_name("name")) == "CodingKeys":
            for line in re.findall(r"case (.+)", text(node)):
                for case in line.split(","):
                    name, _, value = case.partition("=")
                    keys[name.strip()] = value.strip().strip('"') or name.strip()
    return keys


def enum_cases(path, name):
    """The cases of a string enum."""
    for node in nodes(tree(path)):
        if node.type == "class_declaration" and text(node.children[1]) == name:
            return re.findall(r"^    case (\w+)$", text(node), re.MULTILINE)
    raise AssertionError(f"no enum {name}")


def function(path, name, **known):
    """A Swift function of simple statements, as a Python function."""
    (node,) = [
        n
        for n in nodes(tree(path))
        if n.type == "function_declaration" and text(n.child_by_field_name("name")) == name
    ]
    head, _, body = text(node).partition("{\n")
    arguments = re.findall(r"(?:_ )?(\w+):", head.partition(")")[0])
    lines, depth = [f"def {name}({', '.join(arguments)}):"], 1
    for line in body.rstrip("} \n").splitlines():
        depth -= line.strip() == "}"
        statement = _python(line.strip())
        if statement:
            lines.append("    " * depth + statement)
        depth += line.endswith("{")
    values = {"math": math, "sqrt": math.sqrt, "floor": math.floor, "ceil": math.ceil, **known}
    exec("\n".join(lines), values)
    return values[name]


def _python(line):
    line = re.sub(r"^(let|var) ", "", line).rstrip("}").replace("Double.infinity", "math.inf")
    line = re.sub(r"(\w+)\.sorted\(\)", r"sorted(\1)", line)
    line = re.sub(r"(\w+)\.count\b", r"len(\1)", line)
    line = re.sub(r"len\((\w+)\) / 2", r"len(\1) // 2", line)  # of integers
    line = line.replace("Double(", "float(").replace("Int(", "int(").replace("||", "or").replace("&&", "and")
    return re.sub(r"^if (.+) \{$", r"if \1:", line)
