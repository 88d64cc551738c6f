"""How a step's batch is cut, so that several processes, or one after another, can make it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from mirrorme_training.recipe import (
    CodeStageConfig,
    DecoderStageConfig,
    DistillStageConfig,
    FlowStageConfig,
    RecipeError,
    SpeechStageConfig,
    StageConfig,
    VaeStageConfig,
)


@dataclass(frozen=True)
class Parts:
    """The parts of a step's batch, and which of them a process makes.

    Each part has clips and randomness of its own, which depend on its number alone: who makes it
    changes nothing.
    """

    count: int = 1
    """Of all processes."""
    rank: int = 0
    num_processes: int = 1

    @property
    def own(self) -> range:
        """Numbers of the parts that this process makes."""
        return range(self.rank, self.count, self.num_processes)


WHOLE = Parts()
"""One process, the batch in one piece."""


def in_parts(config: StageConfig, count: int) -> StageConfig:
    """The same with the batch of one of `count` parts; the bank stays that of all.

    Raises:
        RecipeError: the batch cannot be cut so.
    """

    def share(name: str, batch: int) -> int:
        if batch % count:
            raise RecipeError(f"{name} is {batch}: want a multiple of {count}, its parts")
        return batch // count

    match config:
        case VaeStageConfig() | DecoderStageConfig():
            pictures = share("picture_batch", config.picture_batch)
            batch = share("batch", config.batch)
            own = dataclasses.replace(config, batch=batch, picture_batch=pictures)
            if isinstance(own, DecoderStageConfig) and own.pairs_every_steps:
                return dataclasses.replace(own, pair_batch=share("pair_batch", own.pair_batch))
            return own
        case DistillStageConfig():
            flow = dataclasses.replace(config.flow, batch=share("flow.batch", config.flow.batch))
            pixels = share("pixel_batch", config.pixel_batch) if config.pixel_weight else 1
            return dataclasses.replace(config, flow=flow, pixel_batch=pixels)
        case SpeechStageConfig() | FlowStageConfig() | CodeStageConfig():
            return dataclasses.replace(config, batch=share("batch", config.batch))
