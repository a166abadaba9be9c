"""The study of sentiment with GPT-2."""
