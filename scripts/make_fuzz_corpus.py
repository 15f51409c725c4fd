"""Writes the seeds of the two fuzzers: MIL programs, one per operation and syntax form, and weight files.

Example:
    python scripts/make_fuzz_corpus.py            # renew csrc/tests/corpus
    python scripts/make_fuzz_corpus.py --check    # exit with 1 when it is not current
"""

from __future__ import annotations

import argparse
import struct
import sys
from pathlib import Path

CORPUS = Path(__file__).resolve().parent.parent / "csrc" / "tests" / "corpus"
HEADER = "program(1.3)[buildInfo = dict<string, string>({})]"
X_SHAPE = "1, 4, 1, 32"
X = f"tensor<fp16, [{X_SHAPE}]>"


def tensor(dtype: str, *values: float) -> str:
    """A 1-D constant in place: tensor("int32", 1, 2) -> tensor<int32, [2]>([1, 2])."""
    return f"tensor<{dtype}, [{len(values)}]>([{', '.join(map(str, values))}])"


def ints(*values: int) -> str:
    return tensor("int32", *values)


def nested(shape: list[int], values: list[float]) -> str:
    """Nested brackets of a shape, filled from `values` again and again."""
    if not shape:
        return str(values[0])
    stride = 1
    for size in shape[1:]:
        stride *= size
    parts = (
        nested(shape[1:], [values[(i * stride + j) % len(values)] for j in range(stride)]) for i in range(shape[0])
    )
    return "[" + ", ".join(parts) + "]"


def block(dtype: str, shape: list[int], values: list[float]) -> str:
    return f"tensor<{dtype}, {shape}>({nested(shape, values)})"


# operation -> how x, fp16 [1, 4, 1, 32], is given to it, and what comes out (None: the type of x)
SAME = [
    "square",
    "sqrt",
    "abs",
    "sign",
    "exp",
    "exp2",
    "floor",
    "ceil",
    "round",
    "sin",
    "cos",
    "atan",
    "erf",
    "relu",
    "relu6",
    "sigmoid",
    "tanh",
    "softplus",
    "softsign",
    "silu",
    "identity",
]
TWO = ["add", "sub", "mul", "real_div", "floor_div", "maximum", "minimum", "pow"]
COMPARE = ["equal", "not_equal", "less", "less_equal", "greater", "greater_equal"]
REDUCE = [
    "reduce_sum",
    "reduce_mean",
    "reduce_max",
    "reduce_min",
    "reduce_l1_norm",
    "reduce_l2_norm",
    "reduce_log_sum",
    "reduce_sum_square",
    "reduce_log_sum_exp",
]
HALF = "fp16(0x1p-1)"
FOUR = tensor("fp16", 1, 2, 3, 4)
POOL = (
    f'kernel_sizes = {ints(1, 2)}, strides = {ints(1, 2)}, pad_type = string("valid"), pad = {ints(0, 0, 0, 0)}, '
    "ceil_mode = bool(false)"
)
CONV = (
    f'strides = {ints(1, 1)}, pad_type = string("valid"), pad = {ints(0, 0, 0, 0)}, dilations = {ints(1, 1)}, '
    "groups = int32(1)"
)
WEIGHT = block("fp16", [2, 4, 1, 1], [1, -2, 0.5])
CALLS: dict[str, tuple[str, str | None]] = {
    **dict.fromkeys(SAME, ("x = x", None)),
    **dict.fromkeys(TWO, (f"x = x, y = {HALF}", None)),
    **{op: (f"x = x, axes = {ints(3)}, keep_dims = bool(true)", "tensor<fp16, [1, 4, 1, 1]>") for op in REDUCE},
    **dict.fromkeys(("rsqrt", "log", "inverse"), (f"x = x, epsilon = {HALF}", None)),
    **dict.fromkeys(("elu", "leaky_relu", "threshold", "thresholded_relu"), (f"x = x, alpha = {HALF}", None)),
    **dict.fromkeys(
        ("sigmoid_hard", "scaled_tanh", "clamped_relu", "linear_activation", "clip"),
        (f"x = x, alpha = {HALF}, beta = fp16(2)", None),
    ),
    "prelu": (f"x = x, alpha = {FOUR}", None),
    "gelu": ('x = x, mode = string("EXACT")', None),
    "cast": ('x = x, dtype = string("fp32")', "tensor<fp32, [1, 4, 1, 32]>"),
    "softmax": ("x = x, axis = int32(-1)", None),
    "conv": (f"x = x, weight = {WEIGHT}, {CONV}", "tensor<fp16, [1, 2, 1, 32]>"),
    "conv_transpose": (
        f"x = x, weight = {block('fp16', [4, 2, 1, 1], [1, 3])}, {CONV}",
        "tensor<fp16, [1, 2, 1, 32]>",
    ),
    "matmul": ("x = x, y = x, transpose_x = bool(false), transpose_y = bool(true)", "tensor<fp16, [1, 4, 1, 1]>"),
    "einsum": (
        f'values = (x, {block("fp16", [1, 32, 1, 4], [1])}), equation = string("nchw,nwhu->nchu")',
        "tensor<fp16, [1, 4, 1, 4]>",
    ),
    "concat": ("values = (x, x), axis = int32(1), interleave = bool(false)", "tensor<fp16, [1, 8, 1, 32]>"),
    "stack": ("values = (x, x), axis = int32(0)", "tensor<fp16, [2, 1, 4, 1, 32]>"),
    "slice_by_size": (
        f"x = x, begin = {ints(0, 1, 0, 0)}, size = {ints(1, 2, 1, 32)}",
        "tensor<fp16, [1, 2, 1, 32]>",
    ),
    "slice_by_index": (
        f"x = x, begin = {ints(0, 0, 0, 0)}, end = {ints(1, 4, 1, 32)}, stride = {ints(1, 2, 1, 1)}",
        "tensor<fp16, [1, 2, 1, 32]>",
    ),
    "reshape": (f"x = x, shape = {ints(1, 2, 2, 32)}", "tensor<fp16, [1, 2, 2, 32]>"),
    "transpose": (f"x = x, perm = {ints(0, 2, 1, 3)}", "tensor<fp16, [1, 1, 4, 32]>"),
    "squeeze": (f"x = x, axes = {ints(2)}", "tensor<fp16, [1, 4, 32]>"),
    "expand_dims": (f"x = x, axes = {ints(0)}", "tensor<fp16, [1, 1, 4, 1, 32]>"),
    "flatten2d": ("x = x, axis = int32(2)", "tensor<fp16, [4, 32]>"),
    "tile": (f"x = x, reps = {ints(1, 2, 1, 1)}", "tensor<fp16, [1, 8, 1, 32]>"),
    "reverse": (f"x = x, axes = {ints(3)}", None),
    "pad": (
        f'x = x, pad = {ints(0, 0, 1, 1, 0, 0, 0, 0)}, mode = string("constant"), constant_val = fp16(0)',
        "tensor<fp16, [1, 6, 1, 32]>",
    ),
    "crop": (f"x = x, crop_height = {ints(0, 0)}, crop_width = {ints(8, 8)}", "tensor<fp16, [1, 4, 1, 16]>"),
    "pixel_shuffle": ("x = x, upscale_factor = int32(2)", "tensor<fp16, [1, 1, 2, 64]>"),
    "depth_to_space": ("x = x, block_size = int32(2)", "tensor<fp16, [1, 1, 2, 64]>"),
    "max_pool": (f"x = x, {POOL}", "tensor<fp16, [1, 4, 1, 16]>"),
    "avg_pool": (f"x = x, {POOL}, exclude_padding_from_average = bool(false)", "tensor<fp16, [1, 4, 1, 16]>"),
    "upsample_nearest_neighbor": (
        "x = x, scale_factor_height = int32(2), scale_factor_width = int32(1)",
        "tensor<fp16, [1, 4, 2, 32]>",
    ),
    "upsample_bilinear": (
        "x = x, scale_factor_height = fp32(2), scale_factor_width = fp32(1), align_corners = bool(false)",
        "tensor<fp16, [1, 4, 2, 32]>",
    ),
    "resize_nearest_neighbor": (
        "x = x, target_size_height = int32(2), target_size_width = int32(32)",
        "tensor<fp16, [1, 4, 2, 32]>",
    ),
    "resize_bilinear": (
        'x = x, target_size_height = int32(2), target_size_width = int32(32), sampling_mode = string("DEFAULT")',
        "tensor<fp16, [1, 4, 2, 32]>",
    ),
    "layer_norm": (f"x = x, axes = {ints(1)}, gamma = {FOUR}, beta = {FOUR}, epsilon = {HALF}", None),
    "batch_norm": (
        f"x = x, mean = {FOUR}, variance = {FOUR}, gamma = {FOUR}, beta = {FOUR}, epsilon = {HALF}",
        None,
    ),
    "instance_norm": (f"x = x, gamma = {FOUR}, beta = {FOUR}, epsilon = {HALF}", None),
    "l2_norm": (f"x = x, epsilon = {HALF}", None),
    "local_response_norm": (f"x = x, size = int32(3), alpha = {HALF}, beta = {HALF}, k = fp16(1)", None),
    "scaled_dot_product_attention": ("query = x, key = x, value = x", None),
    "quantize": (f'input = x, scale = {HALF}, output_dtype = string("int8")', "tensor<int8, [1, 4, 1, 32]>"),
    "reduce_argmax": ("x = x, axis = int32(1), keep_dims = bool(true)", "tensor<int32, [1, 1, 1, 32]>"),
}

WEIGHTS = {
    "affine": "tensor<fp16, [1, 4, 1, 1]> w = constexpr_affine_dequantize()[axis = int32(1), quantized_data = "
    f"{block('int8', [1, 4, 1, 1], [-128, 127, 0])}, scale = {FOUR}, zero_point = int8(3)];",
    "blockwise": "tensor<fp16, [1, 4, 1, 1]> w = constexpr_blockwise_shift_scale(data = "
    f"{block('int4', [1, 4, 1, 1], [-8, 7, 0])}, scale = {block('fp16', [1, 2, 1, 1], [0.5, 2])}, "
    f"offset = {block('int4', [1, 2, 1, 1], [1])});",
    "lut": "tensor<fp16, [1, 4, 1, 1]> w = constexpr_lut_to_dense(indices = "
    f"{block('uint1', [1, 2, 1, 1], [0, 1])}, lut = {block('fp16', [1, 2, 1, 1, 2, 2], [1, 2, 3])}, "
    "vector_axis = int32(1));",
    "sparse": "tensor<fp16, [1, 4, 1, 1]> w = constexpr_sparse_to_dense(nonzero_data = "
    f"{tensor('fp16', 7, -8)}, mask = {block('uint1', [1, 4, 1, 1], [0, 1])});",
    "blobfile": 'tensor<fp16, [4, 4, 1, 1]> v = const()[name = string("v"), val = tensor<fp16, [4, 4, 1, 1]>('
    'BLOBFILE(path = string("@model_path/weights/w.bin"), offset = uint64(64)))];'
    f"tensor<fp16, [1, 4, 4, 1]> w = reshape(x = v, shape = {ints(1, 4, 4, 1)});",
}


def program(statements: str, results: str = "y", inputs: str = f"{X} x") -> str:
    return f"{HEADER}{{func main<ios18>({inputs}){{{statements}}}->({results});}}"


def mil_seeds() -> dict[str, str]:
    seeds = {op: program(f"{made or X} y = {op}({given});") for op, (given, made) in CALLS.items()}
    for op in COMPARE:
        statements = f"tensor<bool, [{X_SHAPE}]> c = {op}(x = x, y = {HALF}); "
        statements += f"tensor<bool, [{X_SHAPE}]> n = logical_not(x = c); {X} y = select(cond = n, a = x, b = x);"
        seeds[f"select_{op}"] = program(statements)
    for name, statement in WEIGHTS.items():
        seeds[f"weight_{name}"] = program(f"{statement} {X} y = mul(x = x, y = w);")
    seeds["weight_blobfile"] = program(
        WEIGHTS["blobfile"].split(";", 1)[0] + f"; {X} y = conv(x = x, weight = v, {CONV});"
    )
    half = "tensor<fp16, [1, 2, 1, 32]>"
    split = f"{half} y, {half} z = split(x = x, num_splits = int32(2), axis = int32(1));"
    seeds["split"] = program(split, "y, z")
    seeds["dequantize"] = program(
        f"{X} y = dequantize(input = x, scale = {HALF});", inputs=f"tensor<int8, [{X_SHAPE}]> x"
    )
    seeds["dialect_a"] = (
        'program(1.0)\n[buildInfo = dict<tensor<string, []>, tensor<string, []>>({{"k", "v"}})]\n{ // old\n'
        f'func main<ios16>({X} x) {{\n{X} y = mul(x = x, y = x)[name = tensor<string, []>("y")];\n}} -> (y);\n}}\n'
    )
    return seeds


def weight_file(code: int, payload: bytes, padding_bits: int = 0, count: int = 1) -> bytes:
    record = struct.pack("<IIQQQ32x", 0xDEADBEEF, code, len(payload), 128, padding_bits)
    return struct.pack("<II56x", count, 2) + record + payload


def blob_seeds() -> dict[str, bytes]:
    """Four bytes of choices (see fuzz_blob.cpp: type, length - 1, offset / 64, strict | fp32 << 1), then the file."""
    fp16, fp32, int4, int8, uint1, uint3 = 0, 1, 5, 6, 10, 12
    two = weight_file(1, bytes(64), count=2) + weight_file(1, struct.pack("<ee", 1, -2))[64:]
    second = two[: 192 + 16] + struct.pack("<Q", 256) + two[192 + 24 :]  # the payload of the second record
    legacy = bytearray(weight_file(1, struct.pack("<eee", 1, -2, 0.5)))
    legacy[72:80] = struct.pack("<Q", 524288)
    return {
        "fp16": bytes([fp16, 2, 1, 1]) + weight_file(1, struct.pack("<eee", 1, -2, 0.5)),
        "fp16_as_fp32": bytes([fp32, 2, 1, 3]) + weight_file(1, struct.pack("<eee", 1, -2, 0.5)),
        "fp32": bytes([fp32, 1, 1, 1]) + weight_file(2, struct.pack("<ff", 1, -2)),
        "int8": bytes([int8, 2, 1, 1]) + weight_file(4, b"\x80\x7f\x00"),
        "int4": bytes([int4, 2, 1, 1]) + weight_file(8, b"\x8f\x07", 4),
        "uint1": bytes([uint1, 8, 1, 1]) + weight_file(9, b"\xa5\x01", 7),
        "uint3": bytes([uint3, 7, 1, 1]) + weight_file(12, b"\x88\xc6\xfa"),
        "second_record": bytes([fp16, 1, 3, 1]) + second,
        "legacy": bytes([fp16, 2, 1, 0]) + bytes(legacy),
    }


def corpus() -> dict[Path, bytes]:
    files = {CORPUS / "mil" / f"{name}.mil": text.encode() for name, text in mil_seeds().items()}
    files |= {CORPUS / "blob" / f"{name}.bin": data for name, data in blob_seeds().items()}
    words = sorted(
        {*CALLS, *(w for text in mil_seeds().values() for w in text.replace("(", " ").split() if w.isidentifier())}
    )
    files[CORPUS / "mil.dict"] = "".join(f'"{word}"\n' for word in words).encode()
    return files


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 when a seed is not current")
    arguments = parser.parse_args()
    wanted = corpus()
    present = {path: path.read_bytes() for path in CORPUS.rglob("*") if path.is_file()}
    if arguments.check:
        stale = sorted(p.name for p in wanted.keys() | present.keys() if wanted.get(p) != present.get(p))
        print(f"not current: {', '.join(stale)}" if stale else "the corpus is current")
        return 1 if stale else 0
    for path in present.keys() - wanted.keys():
        path.unlink()
    for path, data in wanted.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    print(f"{len(wanted)} files in {CORPUS.relative_to(Path.cwd()) if CORPUS.is_relative_to(Path.cwd()) else CORPUS}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
