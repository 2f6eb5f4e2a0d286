"""What stages 1 and 2 share: an image-to-image network against its losses, with or without an adversary."""

from __future__ import annotations

import abc
from typing import ClassVar

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor

from hierbmd.data.site import site_of
from hierbmd.errors import BadConfig
from hierbmd.models import losses
from hierbmd.models.density import DensityNet, DensityOutput
from hierbmd.models.discriminator import DiscriminatorOptions, MultiScaleDiscriminator
from hierbmd.models.generator import Generator
from hierbmd.models.losses import LossWeights
from hierbmd.models.registry import DISCRIMINATOR, build_generator, build_network, load_network
from hierbmd.training.data import Batch
from hierbmd.training.stage import Begin, Schedule, StageModule


class ImageStage(StageModule, abc.ABC):
    """Radiograph to areal-density images.

    The first `judged` channels are those that the adversary sees, the first `aligned` lie where the radiograph shows
    them; None is all. Of the channels after these only the sums count.

    Args:
        generator: the network to start afresh with; a stage that starts from another takes that one's.
        weights: how much each loss counts.
        discriminator: its size; it is built only when a loss needs it.
        optimizer: made over all parameters.
        schedule: of the learning rate.
        from_scratch: begin without the stage before (for comparison).
        channels_last: memory layout; faster on most hardware.
    """

    needs_start: ClassVar[bool] = True
    judged: int | None = None
    aligned: int | None = None

    def __init__(
        self,
        generator: Generator | None = None,
        weights: LossWeights = LossWeights(),  # noqa: B008 (frozen)
        discriminator: DiscriminatorOptions = DiscriminatorOptions(),  # noqa: B008 (frozen)
        optimizer: OptimizerCallable = torch.optim.AdamW,
        schedule: Schedule = Schedule(),  # noqa: B008 (frozen)
        from_scratch: bool = False,
        channels_last: bool = True,
    ) -> None:
        super().__init__(optimizer, schedule, channels_last)
        self.fresh_generator, self.weights, self.from_scratch = generator, weights, from_scratch
        self.discriminator = MultiScaleDiscriminator(discriminator) if weights.needs_discriminator else None

    @abc.abstractmethod
    def build(self, begin: Begin, generator: Generator) -> DensityNet:
        """The stage's network on a generator."""

    @abc.abstractmethod
    def target(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """The target image (B, C, H, W) in g/cm2 and the region's mask (B, 1, H, W), if the stage has one."""

    def begin(self, begin: Begin) -> None:
        """Build the network; from the start's generator and discriminator where there is a start."""
        start = begin.start
        if start is None:
            if self.needs_start and not self.from_scratch:
                before = " or ".join(self.starts_from)
                raise BadConfig(f"{self.stage} starts from a {before} run", mend="give --from RUN")
            if self.fresh_generator is None:
                raise BadConfig("no generator is configured", mend="set model.generator in the YAML")
            self.network = self.build(begin, self.fresh_generator)
        else:
            source = build_network(start.card)
            load_network(source, start.tensors)
            assert isinstance(source, DensityNet)
            self.network = self.build(begin, build_generator(start.card.network["generator"]))
            # What a pretrained network's one channel shows is no structure.
            channels = () if start.card.stage == "pretrain" else site_of(begin.data.region).carriers
            self.network.carry_from(source, channels=channels)
            if self.discriminator is not None and any(name.startswith(DISCRIMINATOR) for name in start.tensors):
                load_network(self.discriminator, start.tensors, prefix=DISCRIMINATOR)
        self.fresh_generator = None

    def tensors(self) -> dict[str, Tensor]:
        """The network, and the discriminator for the stage that follows."""
        named = super().tensors()
        if self.discriminator is not None:
            named |= {DISCRIMINATOR + name: tensor for name, tensor in self.discriminator.state_dict().items()}
        return named

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The weighted losses of a batch, generator's and discriminator's together."""
        target, mask = self.target(batch)
        output = self.network(batch["radiograph"])
        registered = batch["registered"]
        aligned = output.first(self.aligned)
        parts = losses.image_losses(self.weights, aligned, target[:, : self.aligned], mask=mask, registered=registered)
        total = losses.weighted_sum(self.weights, parts) if parts else output.areal.sum() * 0.0
        if (sums := self._sums(output, target)) is not None:
            total = total + self.weights.intensity_sum * sums
            parts["structure_sum"] = sums
        if self.discriminator is not None and registered.any():
            shown, judged = batch["radiograph"][registered], output.first(self.judged).of(registered)
            true = target[registered, : self.judged]
            game, adversary = self._adversarial(self.discriminator, shown, judged, true)
            total = total + losses.weighted_sum(self.weights, game) + adversary
            parts |= {**game, "discriminator": adversary}
        self.report("train", {**parts, "loss": total}, batch)
        return total

    def _sums(self, output: DensityOutput, target: Tensor) -> Tensor | None:
        """The intensity-sum loss of the channels that are not aligned; None where there are none."""
        if self.aligned is None or self.aligned == target.shape[1]:
            return None
        return losses.intensity_sum(output.areal[:, self.aligned :], target[:, self.aligned :])

    def _adversarial(
        self, discriminator: MultiScaleDiscriminator, radiograph: Tensor, output: DensityOutput, target: Tensor
    ) -> tuple[dict[str, Tensor], Tensor]:
        """The generator's losses against a discriminator held still, and the discriminator's own against a fixed fake.

        Both are of one backward pass and one optimizer: neither side's loss reaches the other's parameters.
        """
        real = discriminator(radiograph, target)
        own = losses.adversarial(real, real=True)
        own = 0.5 * (own + losses.adversarial(discriminator(radiograph, output.areal.detach()), real=False))
        discriminator.requires_grad_(False)
        fake = discriminator(radiograph, output.areal)
        discriminator.requires_grad_(True)
        game: dict[str, Tensor] = {}
        if self.weights.feature_matching > 0:
            game["feature_matching"] = losses.feature_matching(fake, real)
        if self.weights.adversarial > 0:
            game["adversarial"] = losses.adversarial(fake, real=True)
        return game, own

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Log the image error on patients held out, and the region mean's where there is a region."""
        target, mask = self.target(batch)
        output = self.network(batch["radiograph"])
        parts = {"l1": losses.l1(output.areal[:, : self.aligned], target[:, : self.aligned])}
        if (sums := self._sums(output, target)) is not None:
            parts["structure_sum"] = sums
        if mask is not None and output.mask_logits is not None:
            parts["region_mean"] = (output.region_mean - losses.region_mean(target, mask)).abs().mean()
        self.report("val", parts, batch)
