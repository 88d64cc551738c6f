"""The loop that all stages share: optimiser, averages, time boxes, resuming, logging.

All randomness of a step's part is drawn from (seed, step, part), so a run that was stopped and
resumed goes on with the numbers that it would have had, and parts of a batch are the same whichever
process makes them. The first process writes all files.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from mirrorme_model.avatar import AvatarModel
from mirrorme_model.checkpoint import Provenance
from mirrorme_model.video_decoder import reads_face, reads_hands
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from mirrorme_training.log_window import LogWindow
from mirrorme_training.parts import Parts
from mirrorme_training.processes import Processes
from mirrorme_training.recipe import OptimConfig
from mirrorme_training.run_log import RunLog
from mirrorme_training.run_state import (
    CHECKPOINT_NAME,
    RunError,
    RunIdentity,
    RunState,
    load_state,
    save_state,
)
from mirrorme_training.stage import Stage
from mirrorme_training.step_graphs import StepGraphs

Precision = Literal["bf16", "fp32"]
WriteCheckpoint = Callable[[Path, AvatarModel, Provenance], None]
_SEED_STRIDE = 1_000_003
_PART_STRIDE = 1 << 44
_EMA_WARMUP = 10


@dataclass(frozen=True)
class RunOptions:
    """How a run is done, apart from what it trains."""

    folder: Path
    device: torch.device
    seed: int
    precision: Precision
    minutes: float | None = None
    """This call stops after so long; None: at the end."""
    call_steps: int | None = None
    """This call stops after so many steps; None: at the end."""
    budget_minutes: float | None = None
    """The whole stage ends after so long, over all calls; the learning rate falls with it."""
    graphs: bool = False
    """Steps are recorded as CUDA graphs and replayed, where the stage allows it."""


class Trainer:
    """Runs one stage in one folder."""

    def __init__(
        self, stage: Stage, config: OptimConfig, options: RunOptions, identity: RunIdentity,
        provenance: Provenance, say: Callable[[str], None], processes: Processes, parts: Parts,
        write: WriteCheckpoint,
    ) -> None:  # fmt: skip
        self._stage, self._config, self._options = stage, config, options
        self._identity, self._provenance, self._say = identity, provenance, say
        self._processes, self._parts, self._write = processes, parts, write
        self._learner: nn.Module = _Learner(stage)
        named = stage.trained.named_parameters()
        self._weights = {name: p for name, p in named if p.requires_grad}
        self._averages = _twins(stage, self._weights)
        self._optimizer = _optimizer(self._weights, config, recorded=options.graphs)
        self._generator = torch.Generator(options.device)
        self._graphs = StepGraphs(self._generator) if options.graphs else None
        self._step = 0
        self._minutes = 0.0
        self._minutes_before = 0.0
        self._started_s = time.monotonic()
        self._first_step = 0

    def resume(self) -> bool:
        """Goes on from the folder's state, if there is one."""
        state = load_state(self._options.folder, self._identity, self._options.device)
        if state is None:
            return False
        with torch.no_grad():
            for name, weight in self._weights.items():
                weight.copy_(state.weights[name])
            for name, average in self._averages.items():
                average.copy_(state.averages[name])
        # Not the state's: runs begun before there were rates have none.
        kept = ("lr", "capturable", "rate")
        fresh = [{name: group[name] for name in kept} for group in self._optimizer.param_groups]
        self._optimizer.load_state_dict(state.optimizer)
        for group, settings in zip(self._optimizer.param_groups, fresh, strict=True):
            group.update(settings)
        self._step, self._minutes_before = state.step, state.minutes
        return True

    def run(self) -> int:
        """Trains until the end, or until this call's time is over; saves. Returns the step.

        Raises:
            RunError: the loss is no number any more. The last state on disk is from before.
        """
        options, config, stage = self._options, self._config, self._stage
        options.folder.mkdir(parents=True, exist_ok=True)
        self._started_s, self._first_step = time.monotonic(), self._step
        stage.advance(self._step)
        # What the first step fitted.
        self._processes.spread((stage.model, stage.average))
        alone, self._learner = self._learner, self._processes.together(self._learner)
        self._tick()
        self._say(f"step {self._step}: data ready after {self._minutes * 60:.1f} s")
        log = RunLog(options.folder) if self._processes.is_first else None
        try:
            saved_s, window = time.monotonic(), LogWindow()
            while self._progress < 1 and not self._call_is_over:
                window.add(self._train_step())
                self._tick()
                if self._step % config.log_every_steps == 0:
                    self._report(log, window)
                    window = LogWindow()
                if self._step % config.strip_every_steps == 0:
                    self._draw(log)
                if time.monotonic() - saved_s > config.checkpoint_every_s:
                    self._save()
                    saved_s = time.monotonic()
            self._save()
            self._draw(log)
        finally:
            self._learner = alone
            if log is not None:
                log.close()
        return self._step

    def _train_step(self) -> dict[str, Tensor]:
        for group in self._optimizer.param_groups:
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(self._learning_rate * group["rate"])
            else:
                group["lr"] = self._learning_rate * group["rate"]
        self._stage.advance(self._step)
        self._seed(self._parts.own[0])
        kind = None if self._graphs is None else self._stage.kind(self._step)
        if self._graphs is None or kind is None:
            numbers = self._minimize()
        else:
            numbers = self._graphs.run(kind, self._minimize)
        self._step += 1
        self._average()
        return numbers

    def _minimize(self) -> dict[str, Tensor]:
        sums: dict[str, Tensor] = {}
        for part in self._parts.own:
            for name, value in self._train_part(part).items():
                sums[name] = sums[name] + value if name in sums else value
        norm = nn.utils.clip_grad_norm_(list(self._weights.values()), self._config.max_norm)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        means = {name: total / len(self._parts.own) for name, total in sums.items()}
        return {"norm": norm.detach(), **means}

    def _seed(self, part: int) -> None:
        seed = self._options.seed * _SEED_STRIDE + self._step + part * _PART_STRIDE
        self._generator.manual_seed(seed)

    def _train_part(self, part: int) -> dict[str, Tensor]:
        """Adds the gradients of one part's share in the loss."""
        own = self._parts.own
        self._stage.show(part)
        if part != own[0]:
            self._seed(part)
        is_last = part == own[-1]
        with contextlib.nullcontext() if is_last else self._processes.apart(self._learner):
            with self._autocast():
                loss, numbers = self._learner(self._step, self._generator)
            (loss / len(own)).backward()
        return {"loss": loss.detach(), **numbers}

    def _autocast(self) -> torch.autocast:
        half = self._options.precision == "bf16"
        return torch.autocast(self._options.device.type, torch.bfloat16, enabled=half)

    @torch.no_grad()
    def _average(self) -> None:
        """Weights of the last steps, evenly at first (as in TensorFlow's moving averages)."""
        decay = min(self._config.ema_decay, (1 + self._step) / (_EMA_WARMUP + self._step))
        now: list[Tensor] = [self._weights[name] for name in self._averages]
        get_ema_multi_avg_fn(decay)(list(self._averages.values()), now, self._step)

    def _tick(self) -> None:
        """Reads the clock; where something ends by it, all processes go by the first one's."""
        minutes, options = (time.monotonic() - self._started_s) / 60, self._options
        timed = options.minutes is not None or options.budget_minutes is not None
        self._minutes = self._processes.agreed(minutes) if timed else minutes

    @property
    def _call_is_over(self) -> bool:
        minutes, steps = self._options.minutes, self._options.call_steps
        late = minutes is not None and self._minutes >= minutes
        return late or (steps is not None and self._step - self._first_step >= steps)

    @property
    def _progress(self) -> float:
        done = self._step / self._config.steps
        if self._options.budget_minutes is not None:
            minutes = self._minutes_before + self._minutes
            done = max(done, minutes / self._options.budget_minutes)
        return done

    @property
    def _learning_rate(self) -> float:
        config = self._config
        warm = min(1.0, (self._step + 1) / max(1, config.warmup_steps))
        cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, self._progress)))
        return (
            config.learning_rate * warm * (config.final_share + (1 - config.final_share) * cosine)
        )

    def _report(self, log: RunLog | None, window: LogWindow) -> None:
        values = self._processes.means(window.means())
        if not math.isfinite(values["loss"]):
            raise RunError(f"the loss is {values['loss']} at step {self._step}")
        if log is None:
            return
        rate = window.num_steps / window.seconds
        with self._autocast():
            held_out = self._stage.held_out()
        values |= {name: float(value) for name, value in held_out.items()}
        values |= {
            "lr": self._learning_rate,
            "steps_per_s": rate,
            "clips_per_s": rate * self._stage.clips_per_step * self._parts.count,
            "minutes": self._minutes_before + self._minutes,
        }
        log.numbers(self._step, values)
        shown = "  ".join(f"{name} {value:.4g}" for name, value in values.items())
        self._say(f"step {self._step}: {shown}")

    def _draw(self, log: RunLog | None) -> None:
        if log is None:
            return
        self._stage.show(self._parts.own[0])
        self._stage.finish()
        with self._autocast():
            strip = self._stage.strip()
        log.picture(self._step, strip)

    def _save(self) -> None:
        if not self._processes.is_first:
            return
        minutes = self._minutes_before + self._minutes
        self._stage.show(self._parts.own[0])
        self._stage.finish()
        state = RunState(
            identity=self._identity,
            step=self._step,
            minutes=minutes,
            weights={name: weight.detach() for name, weight in self._weights.items()},
            averages=self._averages,
            optimizer=self._optimizer.state_dict(),
        )
        save_state(self._options.folder, state)
        origin = {**self._provenance, "steps": self._step, "minutes": round(minutes, 2)}
        self._write(self._options.folder / CHECKPOINT_NAME, self._stage.average, origin)


class _Learner(nn.Module):
    """A stage's loss as a module, the only way to bring several processes' gradients together."""

    def __init__(self, stage: Stage) -> None:
        super().__init__()
        self.trained = stage.trained
        self._loss = stage.loss

    def forward(self, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """As the stage's."""
        return self._loss(step, generator)


def _twins(stage: Stage, weights: dict[str, nn.Parameter]) -> dict[str, Tensor]:
    """The averaged model's tensors by the trained weights' names."""
    prefix = "model."
    ours = dict(stage.average.named_parameters())
    return {name: ours[name[len(prefix) :]] for name in weights if name.startswith(prefix)}


def _optimizer(
    weights: dict[str, nn.Parameter], config: OptimConfig, *, recorded: bool
) -> torch.optim.AdamW:
    """`recorded`: the learning rate is read where the steps are, on the device."""
    device = next(iter(weights.values())).device
    groups: list[dict[str, object]] = []
    shares = {name: _rate_share(name, config) for name in weights}
    rates = dict.fromkeys((1.0, config.face_rate, config.hand_rate))
    for share, matrices in itertools.product(rates, (True, False)):
        some = [
            weight
            for name, weight in weights.items()
            if shares[name] == share and (weight.dim() >= 2) == matrices
        ]
        if some:
            decay = config.weight_decay if matrices else 0.0
            rate = config.learning_rate * share
            lr = torch.tensor(rate, device=device) if recorded else rate
            groups.append({"params": some, "weight_decay": decay, "rate": share, "lr": lr})
    return torch.optim.AdamW(
        groups,
        betas=(0.9, config.beta2),
        fused=device.type == "cuda",
        capturable=recorded,
    )


def _rate_share(name: str, config: OptimConfig) -> float:
    """A weight's learning rate over that of most."""
    if reads_face(name):
        return config.face_rate
    return config.hand_rate if reads_hands(name) else 1.0
