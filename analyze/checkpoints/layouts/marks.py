"""Names of files by which a directory is told to be one checkpoint."""

import re

INDICES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
SHARD = re.compile(r"-\d{5}-of-\d{5}\.(?:safetensors|bin)$")
METADATA = ".metadata"  # of torch.distributed.checkpoint, written last
