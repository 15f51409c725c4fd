"""Where the engine's arguments differ from the format's, as coremltools has it. Both are pairs (op, argument)."""

# The engine's compiler wants these although the format calls them optional (ANE_FACTS 3.3).
REQUIRED_BY_THE_ENGINE = {
    ("rsqrt", "epsilon"), ("inverse", "epsilon"), ("log", "epsilon"), ("gelu", "mode"), ("concat", "interleave"),
}  # fmt: skip
# Optional arguments of newer opsets that nobody has used on an ANE.
LEFT_OUT = {
    ("topk", "sort"), ("topk", "return_indices"), ("topk", "output_indices_dtype"), ("reduce_argmax", "output_dtype"),
    ("upsample_bilinear", "half_pixel_centers"),
}  # fmt: skip
