"""Memory for time: what happens inside blocks is not kept, but made again for the gradients."""

from __future__ import annotations

import functools

from mirrorme_model.transformer import Transformer
from torch.utils.checkpoint import checkpoint


def recompute_blocks(transformer: Transformer) -> None:
    """From now on, in place. Kept of each block are its inputs and its own keys and values."""
    for block in transformer.blocks:
        # Nothing in a block is random.
        block.forward = functools.partial(  # type: ignore[method-assign]
            checkpoint, block.forward, use_reentrant=False, preserve_rng_state=False
        )
