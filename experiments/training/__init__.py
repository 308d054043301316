"""Training of vision transformers: fine-tuning and self-distillation."""
