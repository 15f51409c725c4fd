"""Train small language models on Apple's Neural Engine, or on an emulated one."""
