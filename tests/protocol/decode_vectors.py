#!/usr/bin/env python3
"""A second decoder of petrel/1, written from docs/protocol.md and proto/schema alone.

It reads the tables of the document and the schema files as they stand, decodes
every vector of proto/vectors with nothing but Python's standard library, and
compares. zstd itself is the system's libzstd.so.1 (through ctypes); frames get
the magic number back that the protocol leaves out.

    python3 tests/protocol/decode_vectors.py [ROOT]

Exit status 0: all agree. 1: something differs (one line each). 2: it cannot run.
"""

import ctypes
import ctypes.util
import hashlib
import json
import pathlib
import re
import sys

ROOT = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ".").resolve()
BODY_BYTES_MAX = 65_536


class Refused(Exception):
    """Bytes that the document says are refused."""

    def __init__(self, kind):
        super().__init__(kind)
        self.kind = kind


# ---- the schema: messages and enums of proto/schema/*.proto

SCALARS = {"uint64", "uint32", "bool", "string", "bytes"}


def read_schema():
    messages, enums, choices = {}, {}, {}
    for path in sorted((ROOT / "proto/schema").glob("*.proto")):
        text = re.sub(r"//[^\n]*", "", path.read_text())
        for name, body in re.findall(r"enum (\w+) \{([^}]*)\}", text):
            enums[name] = {int(n) for _, n in re.findall(r"(\w+) = (\d+);", body)}
        for name, body in re.findall(r"message (\w+) \{(?:[^{}]*)oneof what \{([^}]*)\}", text):
            choices[name] = set(re.findall(r"(\w+) = \d+;", body))
        text = re.sub(r"oneof what \{([^}]*)\}", r"\1", text)
        for name, body in re.findall(r"message (\w+) \{([^}]*)\}", text):
            fields = re.findall(r"(repeated )?(\w+) (\w+) = (\d+);", body)
            messages[name] = {int(n): (f, t, bool(r)) for r, t, f, n in fields}
    return messages, enums, choices


# CHOICES: of messages with a `oneof`, those of its fields of which one at most is there.
MESSAGES, ENUMS, CHOICES = read_schema()
KINDS = CHOICES["Frame"]

# ---- protobuf (proto3), as far as the schema uses it


def read_number(data, at):
    value = 0
    for place in range(10):
        if at + place >= len(data):
            raise Refused("malformed")
        byte = data[at + place]
        value |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            if value >= 1 << 64:
                raise Refused("malformed")
            return value, at + place + 1
    raise Refused("malformed")


def read_value(data, at, wire_type):
    """A field's raw value: a number, or bytes."""
    if wire_type == 0:
        return read_number(data, at)
    if wire_type == 2:
        length, at = read_number(data, at)
    else:
        length = {1: 8, 5: 4}.get(wire_type)
        if length is None:
            raise Refused("malformed")
    if at + length > len(data):
        raise Refused("malformed")
    return data[at : at + length], at + length


def scalar(kind, raw):
    if kind == "bytes":
        return raw.hex()
    if kind == "string":
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError:
            raise Refused("malformed") from None
    if kind == "bool":
        return raw != 0
    return raw & 0xFFFFFFFF if kind == "uint32" else raw


def decode_message(name, data):
    """The message as JSON: what has its default value is left out."""
    fields, message, at = MESSAGES[name], {}, 0
    while at < len(data):
        key, at = read_number(data, at)
        number, wire_type = key >> 3, key & 7
        if number == 0:
            raise Refused("malformed")
        raw, at = read_value(data, at, wire_type)
        if number not in fields:
            continue
        field, kind, repeated = fields[number]
        is_number = kind in ENUMS or kind in ("uint64", "uint32", "bool")
        if repeated and is_number and wire_type == 2:
            inner = 0
            while inner < len(raw):
                one, inner = read_number(raw, inner)
                message.setdefault(field, []).append(scalar(kind, one))
            continue
        if wire_type != (0 if is_number else 2):
            raise Refused("malformed")
        value = decode_message(kind, raw) if kind in MESSAGES else scalar(kind, raw)
        if repeated:
            message.setdefault(field, []).append(value)
        elif kind in MESSAGES or field in CHOICES.get(name, ()):
            if field in CHOICES.get(name, ()):
                for other in CHOICES[name] & message.keys():
                    del message[other]
            message[field] = value
        elif value in (0, "", False):
            message.pop(field, None)
        else:
            message[field] = value
    return message


# ---- frames


def read_length(data, at):
    """A QUIC variable-length integer and where it ends; None if it is cut."""
    size = 1 << (data[at] >> 6)
    if at + size > len(data):
        return None
    value = int.from_bytes(data[at : at + size], "big")
    return value & ((1 << (8 * size - 2)) - 1), at + size


def decode_frames(data, limit):
    frames, at = [], 0
    while at < len(data):
        found = read_length(data, at)
        if found is None:
            raise Refused("truncated")
        length, at = found
        if length == 0:
            raise Refused("empty")
        if length > limit:
            raise Refused("too_large")
        if at + length > len(data):
            raise Refused("truncated")
        frame = decode_message("Frame", data[at : at + length])
        if not KINDS & frame.keys():
            raise Refused("unknown")
        frames.append(frame)
        at += length
    return frames


# ---- bodies


class Zstd:
    """The system's zstd library; the decoder of RFC 8878, nothing of ours."""

    def __init__(self):
        try:
            self.lib = ctypes.CDLL(ctypes.util.find_library("zstd") or "libzstd.so.1")
        except OSError:
            print("libzstd is missing: apt-get install libzstd1", file=sys.stderr)
            sys.exit(2)
        size, pointer = ctypes.c_size_t, ctypes.c_void_p
        self.lib.ZSTD_createDCtx.restype = pointer
        self.lib.ZSTD_decompress_usingDict.restype = size
        self.lib.ZSTD_decompress_usingDict.argtypes = [
            pointer, ctypes.c_char_p, size, ctypes.c_char_p, size, ctypes.c_char_p, size,
        ]
        self.lib.ZSTD_isError.argtypes = [size]
        self.context = self.lib.ZSTD_createDCtx()

    def decode(self, lean, dictionary):
        frame = b"\x28\xb5\x2f\xfd" + lean
        out = ctypes.create_string_buffer(BODY_BYTES_MAX)
        got = self.lib.ZSTD_decompress_usingDict(
            self.context, out, BODY_BYTES_MAX, frame, len(frame), dictionary, len(dictionary)
        )
        if self.lib.ZSTD_isError(got):
            raise Refused("corrupt")
        return out.raw[:got]


def check_lean(data):
    """The rules for a lean frame that can be seen from its headers."""
    if not data:
        raise Refused("truncated")
    if data[0] != 0:
        raise Refused("not_lean")
    if len(data) < 2:
        raise Refused("truncated")
    window = (1 << (10 + (data[1] >> 3))) // 8 * (8 + (data[1] & 7))
    if window > 1 << 20:
        raise Refused("window_too_large")
    at, runs = 2, 0
    while True:
        if at + 3 > len(data):
            raise Refused("truncated")
        header = int.from_bytes(data[at : at + 3], "little")
        last, kind, size = header & 1, header >> 1 & 3, header >> 3
        if kind == 3:
            raise Refused("corrupt")
        if kind < 2:
            runs += size
        if runs > BODY_BYTES_MAX:
            raise Refused("too_long")
        at += 3 + (1 if kind == 1 else size)
        if at > len(data):
            raise Refused("truncated")
        if last:
            break
    if at < len(data):
        raise Refused("trailing")


def decode_body(zstd, dictionaries, encoding, data):
    if encoding == 0:
        if len(data) > BODY_BYTES_MAX:
            raise Refused("too_long")
        return data
    if encoding != 1 and encoding <= 16:
        raise Refused("unknown_encoding")
    dictionary = b"" if encoding == 1 else dictionaries.get(encoding - 16)
    if dictionary is None:
        raise Refused("unknown_dictionary")
    check_lean(data)
    return zstd.decode(data, dictionary)


# ---- ids


def pair_id(a, b):
    low, high = sorted([a, b])
    return hashlib.sha256(b"petrel pair 1" + low + high).digest()[:16]


def time_of(message_id):
    if message_id[6] >> 4 != 7 or message_id[8] >> 6 != 2:
        return None
    return int.from_bytes(message_id[:6], "big")


def tail_of(message_id, time_ms):
    """What a cursor carries of the entry that it stands on."""
    return bytes(a ^ b for a, b in zip(message_id[8:], time_ms.to_bytes(8, "big")))


def digest_of(kind, encoding, body):
    return hashlib.sha256(kind.to_bytes(2, "big") + encoding.to_bytes(4, "big") + body).digest()


# ---- the document's tables


def table(document, *columns):
    """The rows of the table whose header has these columns."""
    rows, inside = [], False
    for line in document.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not line.startswith("|"):
            inside = False
        elif cells == list(columns):
            inside = True
        elif inside and not set(line) <= set("|- "):
            rows.append(cells)
    if not rows:
        sys.exit(f"docs/protocol.md has no table {columns}")
    return rows


def document_codes(document):
    for number, name, action in table(document, "code", "name", "action"):
        what, _, after = action.partition(", ")
        after = after.split(" ms")[0].replace(",", "")
        yield {
            "number": int(number),
            "name": name.split(" ")[0],
            "action": "none" if what.startswith("(") else what,
            "after_ms": int(after) if after.isdigit() else 0,
        }


def document_fields(document):
    """Message -> {number: (field, type, repeated)}, as the document lists them."""
    listed = {}
    for name, fields in table(document, "message", "fields"):
        listed[name.strip("`")] = {
            int(number): (field, kind, bool(repeated))
            for number, field, repeated, kind in re.findall(
                r"(\d+) (\w+) (repeated )?(\w+)", fields
            )
        }
    return listed


# ---- the comparison


def main():
    failures, checked = [], 0

    def check(name, got, expected):
        nonlocal checked
        checked += 1
        if got != expected:
            failures.append(f"{name}: {got!r}, expected {expected!r}")

    def outcome(decode, *arguments):
        try:
            return decode(*arguments)
        except Refused as refused:
            return refused.kind

    document = (ROOT / "docs/protocol.md").read_text()
    read = lambda name: json.loads((ROOT / "proto/vectors" / name).read_text())

    check("the document's fields", document_fields(document), MESSAGES)

    codes = read("codes.json")["codes"]
    check("the document's codes", list(document_codes(document)), codes)
    number_of = {code["name"]: code["number"] for code in codes}

    frames = read("frames.json")
    for vector in frames["frames"]:
        got = outcome(decode_frames, bytes.fromhex(vector["hex"]), vector["max"])
        check(vector["name"], got, [vector["frame"]])
    for vector in frames["tolerated"]:
        got = outcome(decode_frames, bytes.fromhex(vector["hex"]), vector["max"])
        check(vector["name"], got, vector["frames"])
    refusals = {"too_large": "TOO_LARGE", "unknown": "UNEXPECTED"}
    for vector in frames["refused"]:
        got = outcome(decode_frames, bytes.fromhex(vector["hex"]), vector["max"])
        check(vector["name"], got, vector["error"])
        code = number_of[refusals.get(vector["error"], "MALFORMED")]
        check(vector["name"] + ", its code", vector["code"], code)
    for vector in frames["lengths"]:
        data = bytes.fromhex(vector["hex"])
        check(f"length {vector['hex']}", read_length(data, 0), (vector["value"], len(data)))
    events = read("events.json")["events"]
    for vector in events:
        got = outcome(decode_message, "Event", bytes.fromhex(vector["hex"]))
        check(f"event {vector['hex']}", got, vector["event"])
    of_frames = [("Frame", vector["frame"]) for vector in frames["frames"]]
    check_coverage(check, of_frames + [("Event", vector["event"]) for vector in events])

    bodies = read("bodies.json")
    listed = {
        int(number): (file.strip("`"), sha256.strip("`"))
        for number, file, _, sha256 in table(document, "N", "file", "for", "SHA-256")
    }
    dictionaries = {}
    for vector in bodies["dictionaries"]:
        data = (ROOT / "proto/dictionaries" / vector["file"]).read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        check(vector["file"], (vector["file"], digest), listed.get(vector["version"]))
        check(vector["file"] + ", its vector", vector["sha256"], digest)
        dictionaries[vector["version"]] = data
    zstd = Zstd()
    for vector in bodies["bodies"]:
        plain = plain_of(vector)
        data = bytes.fromhex(vector["hex"])
        check(vector["name"], outcome(decode_body, zstd, dictionaries, vector["encoding"], data), plain)
    for vector in bodies["refused"]:
        data = bytes.fromhex(vector["hex"])
        got = outcome(decode_body, zstd, dictionaries, vector["encoding"], data)
        check(vector["name"], got, vector["error"])
        check(vector["name"] + ", its code", vector["code"], number_of["BAD_BODY"])

    ids = read("ids.json")
    for vector in ids["pairs"]:
        got = pair_id(bytes.fromhex(vector["a"]), bytes.fromhex(vector["b"])).hex()
        check(f"pair {vector['a']} {vector['b']}", got, vector["conversation"])
    for vector in ids["message_ids"]:
        message_id = bytes.fromhex(vector["id"])
        check(vector["name"], time_of(message_id), vector["time_ms"])
    for vector in ids["cursors"]:
        got = tail_of(bytes.fromhex(vector["id"]), vector["time_ms"]).hex()
        check(f"cursor on {vector['id']} at {vector['time_ms']}", got, vector["tail"])
    for vector in ids["digests"]:
        body = bytes.fromhex(vector["body"])
        got = digest_of(vector["entry_kind"], vector["encoding"], body).hex()
        check(f"digest of {vector['body']}", got, vector["digest"])

    for failure in failures:
        print(failure)
    print(f"{checked} checks, {len(failures)} failures")
    return 1 if failures else 0


def plain_of(vector):
    if "plain" in vector:
        return vector["plain"].encode()
    if "plain_hex" in vector:
        return bytes.fromhex(vector["plain_hex"])
    repeated = vector["plain_repeated"]
    return bytes([repeated["byte"]]) * repeated["times"]


def check_coverage(check, vectors):
    """Every field of every message has a value in some vector."""
    seen = {}

    def visit(name, message):
        by_field = {field: kind for field, kind, _ in MESSAGES[name].values()}
        for field, value in message.items():
            seen.setdefault(name, set()).add(field)
            if by_field[field] in MESSAGES:
                for one in value if isinstance(value, list) else [value]:
                    visit(by_field[field], one)

    for name, message in vectors:
        visit(name, message)
    for name, fields in MESSAGES.items():
        missing = {field for field, _, _ in fields.values()} - seen.get(name, set())
        check(f"fields of {name} without a vector", missing, set())


if __name__ == "__main__":
    sys.exit(main())
