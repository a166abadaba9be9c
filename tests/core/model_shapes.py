"""The architectures that every gradient test runs on; `tiny_model` makes them."""

SHAPES = ("gpt2-tied", "gpt2-untied", "llama-tied", "llama-untied", "neox-untied")
