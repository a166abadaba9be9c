"""The paper's training on summaries at its own size, on engines that others keep: TRL, accelerate, FSDP."""
