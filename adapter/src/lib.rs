//! FFA-LoRA itself: layout of B, A from a public seed, server step, PEFT files.
