"""Names of files by which a directory is told to be one checkpoint."""

import re

# Hugging Face's, diffusers', and whatever else has shards of a name of its own.
INDEX = re.compile(r"\.(?:safetensors|bin)\.index\.json$")
FIRST = (
    "model.safetensors.index.json", "pytorch_model.bin.index.json",
    "diffusion_pytorch_model.safetensors.index.json", "diffusion_pytorch_model.bin.index.json",
)  # fmt: skip
SHARD = re.compile(r"-\d{5}-of-\d{5}\.(?:safetensors|bin)$")
METADATA = ".metadata"  # of torch.distributed.checkpoint, written last
