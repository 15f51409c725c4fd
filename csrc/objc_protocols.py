"""Reads the protocols of csrc/device/apple/private_api.h: what each private class is expected to answer, and with which
types, as the Objective-C run time writes them.

The header keeps to a form: before the protocols of a class stands a comment with its name, `/* _ANEModel */`; protocols
of class methods end in `Class`; every method is `- (type)part:(type)name part:(type)name;`.
"""

from __future__ import annotations

import re

# Encoding and size in the encoding (nothing is smaller than an int).
POINTER = 8
TYPES = {
    "void": ("v", 0),
    "id": ("@", POINTER),
    "Class": ("#", POINTER),
    "BOOL": ("B", 4),
    "int8_t": ("c", 4),
    "char": ("c", 4),
    "int": ("i", 4),
    "int32_t": ("i", 4),
    "unsigned int": ("I", 4),
    "uint32_t": ("I", 4),
    "int64_t": ("q", 8),
    "long long": ("q", 8),
    "NSInteger": ("q", 8),
    "uint64_t": ("Q", 8),
    "unsigned long long": ("Q", 8),
    "NSUInteger": ("Q", 8),
    "double": ("d", 8),
    "void *": ("^v", POINTER),
    "void **": ("^^v", POINTER),
    "uint32_t *": ("^I", POINTER),
    "unsigned int *": ("^I", POINTER),
    "IOSurfaceRef": ("^{__IOSurface=}", POINTER),
}
COMMENT = r"/\*.*?\*/|//[^\n]*"
OWNER = r"/\*\s*(?P<owner>_ANE\w+)\b.*?\*/"
PROTOCOL = r"@protocol\s+(?P<protocol>\w+)[^\n;]*\n(?P<body>.*?)@end"
TOKEN = re.compile("|".join((OWNER, COMMENT, PROTOCOL)), re.DOTALL)
METHOD = re.compile(r"^\s*-\s*\((?P<result>[^()]*)\)(?P<rest>[^;]*);", re.MULTILINE)
PART = re.compile(r"(?P<name>\w+):\((?P<type>[^()]*(?:\([^()]*\)[^()]*)*)\)\s*\w+")


def encoded(written: str) -> tuple[str, int]:
    """The encoding of a type, and its size."""
    name = re.sub(r"\s*(\*+)", r" \1", re.sub(r"\b(const|nullable|nonnull|_Nullable|_Nonnull)\b", "", written)).strip()
    name = re.sub(r"\s+", " ", re.sub(r"<.*>", "", name))
    if name in TYPES:
        return TYPES[name]
    if "^" in name:
        return "@?", POINTER  # a block
    if re.fullmatch(r"[A-Z]\w+ \*", name):
        return "@", POINTER
    if re.fullmatch(r"[A-Z]\w+ \*\*", name):
        return "^@", POINTER
    raise SystemExit(f"private_api.h: the type '{written}' is unknown: add it to csrc/objc_protocols.py")


def method(result: str, rest: str) -> tuple[str, str]:
    """(selector, encoding) of what stands behind the minus: `B32@0:8@16^@24`."""
    parts = list(PART.finditer(rest))
    selector = "".join(part["name"] + ":" for part in parts) or rest.strip()
    arguments = ["@0", ":8"]
    offset = 2 * POINTER
    for part in parts:
        code, size = encoded(part["type"])
        arguments.append(f"{code}{offset}")
        offset += size
    return selector, f"{encoded(result)[0]}{offset}{''.join(arguments)}"


def methods_of(header: str) -> dict[str, dict[str, str]]:
    """class -> {"+selector" or "-selector": encoding}, in the order of the header."""
    classes: dict[str, dict[str, str]] = {}
    owner = ""
    for token in TOKEN.finditer(header):
        owner = token["owner"] or owner
        if token["protocol"] is None:
            continue
        sign = "+" if token["protocol"].endswith("Class") else "-"
        body = re.sub(COMMENT, "", token["body"], flags=re.DOTALL)
        for found in METHOD.finditer(body):
            selector, encoding = method(found["result"], found["rest"])
            classes.setdefault(owner, {})[sign + selector] = encoding
    return classes
