"""What De-Pois's training does in one step: of the GAN that enlarges the trusted set, then of the mimic
model."""

import numpy as np
import torch
import torch.nn.functional as F

from common import images, seeds, training
from common.distributed import to_device
from faces.labelled import Labelled
from models.depois.classifier import new_classifier
from models.depois.memory import Memory
from models.depois.network import LATENT, Critic, Generator, seeded
from models.depois.options import CriticOptions


class Step:
    """Both stages as one sequence of steps, so that one state resumes either.

    Steps below gan_steps are the GAN's: G against a discriminator, and against an authenticator A that
    learns classes from trusted images alone; A's loss on G's images is a term of G's loss, so its gradient
    reaches G (in the published code it is only added to the printed number). The dense generator would draw
    one image of a class: lambda_modes E |z - z'| / |G(z, y) - G(z', y)| keeps them apart (Mao et al. 2019,
    arXiv:1903.05628). The other steps are the mimic model's: a conditional WGAN-GP on trusted and synthetic
    images, n_critic critic steps and one generator step each.

      L_D = E D(x~, y) - E D(x, y) + lambda_gp E (||grad D(x^, y)|| - 1)^2 + lambda_drift E D(x, y)^2 +
      lambda_label E max(0, m - D(x, y) + D(x, y'))

    x~ is generated, half of it at earlier steps; x^ lies between x and x~; y' is a wrong label of x. The last
    two terms and the earlier images are ours (lambda_drift: Karras et al. 2018, arXiv:1710.10196, App. A;
    wrong labels as negatives: Reed et al. 2016, arXiv:1605.05396; earlier images: Shrivastava et al. 2017,
    arXiv:1612.07828): without them nothing ties a clean image's score to its label.

    Args:  options  of models.depois.options.critic_options;  trusted  faces.labelled.Labelled
    """

    def __init__(self, options: CriticOptions, trusted: Labelled, device: torch.device | str) -> None:
        self.options, self.device, self.trusted = options, device, trusted
        self.classes, shape = len(trusted.classes), trusted.shape

        def new(make, name):
            return seeded(make, options.seed, "depois", name).to(device)

        self.G, self.D = (
            new(lambda: Generator(shape, self.classes), "generator"),
            new(lambda: Critic(shape, self.classes), "discriminator"),
        )
        self.A = new_classifier(shape, self.classes, options.seed).to(device)
        self.mimic_G, self.critic = (
            new(lambda: Generator(shape, self.classes), "mimic"),
            new(lambda: Critic(shape, self.classes), "critic"),
        )
        self.average, self.memory = training.averaged(self.critic), Memory(shape, device)
        fused = torch.device(device).type == "cuda"
        optimiser = (
            (lambda network: torch.optim.RMSprop(network.parameters(), options.critic_lr))
            if options.schedule == "published"
            else (
                lambda network: torch.optim.Adam(
                    network.parameters(), options.critic_lr, betas=(0.0, 0.9), fused=fused
                )
            )
        )
        self.gan_optimisers = {
            name: torch.optim.Adam(network.parameters(), options.gan_lr, betas=(0.5, 0.999), fused=fused)
            for name, network in (("G", self.G), ("D", self.D), ("A", self.A))
        }
        self.optimisers = {"mimic": optimiser(self.mimic_G), "critic": optimiser(self.critic)}
        self.augmented = None

    def parts(self) -> dict:
        """What an exact resume needs."""
        return {
            "G": self.G,
            "D": self.D,
            "A": self.A,
            "mimic": self.mimic_G,
            "critic": self.critic,
            "average": self.average,
            "memory": self.memory,
            **{
                f"{name}_optimiser": o
                for name, o in {
                    **self.gan_optimisers,
                    **{f"{n}_w": o for n, o in self.optimisers.items()},
                }.items()
            },
        }

    def __call__(self, i: int) -> dict[str, torch.Tensor]:
        draw = seeds.generator(self.options.seed, "depois", i)
        return (
            self.gan_step(draw)
            if i < self.options.gan_steps
            else self.mimic_step(i - self.options.gan_steps, draw)
        )

    def noise(self, n: int, draw: torch.Generator) -> torch.Tensor:
        return to_device(torch.randn(n, LATENT, generator=draw), self.device)

    def gan_step(self, draw: torch.Generator) -> dict[str, torch.Tensor]:
        options, n = self.options, self.options.train_batch_size
        x, y = self._batch(self.trusted, n, draw)
        asked = to_device(torch.randint(self.classes, (n,), generator=draw), self.device)
        z = self.noise(n, draw)
        fake = self.G(z, asked)
        real, generated = self.D(torch.cat([x, fake.detach()]), torch.cat([y, asked])).split(n)
        loss_d = F.softplus(-real).mean() + F.softplus(generated).mean()
        training.step_of(self.gan_optimisers["D"], loss_d)
        loss_a = F.cross_entropy(self.A(x), y)
        training.step_of(self.gan_optimisers["A"], loss_a)
        self.D.requires_grad_(False), self.A.requires_grad_(False)
        faithful = F.cross_entropy(self.A(fake), asked)
        loss_g = F.softplus(-self.D(fake, asked)).mean() + options.lambda_auth * faithful
        if options.lambda_modes:
            other = self.noise(n, draw)
            moved = (self.G(other, asked) - fake).flatten(1).abs().mean(1) / (other - z).abs().mean(1)
            loss_g = loss_g + options.lambda_modes / (moved.mean() + 1e-5)
        training.step_of(self.gan_optimisers["G"], loss_g)
        self.D.requires_grad_(True), self.A.requires_grad_(True)
        return {
            "gan_d": loss_d.detach(),
            "gan_g": loss_g.detach(),
            "authenticator": loss_a.detach(),
            "authenticator_on_generated": faithful.detach(),
        }

    @torch.no_grad()
    def synthetic(self, count: int | None = None) -> Labelled:
        """Labelled images of the GAN, as many of each class as the others; `count` of them, or as
        options.synthetic says.  Equal weights, equal images."""
        count = round(self.options.synthetic * len(self.trusted)) if count is None else count
        labels, draw = (
            torch.arange(count) % self.classes,
            seeds.generator(self.options.seed, "depois", "synthetic"),
        )
        z = torch.randn(count, LATENT, generator=draw)
        parts = [
            images.to_uint8(self.G(z[k : k + 512].to(self.device), labels[k : k + 512].to(self.device)))
            for k in range(0, count, 512)
        ]
        height, width = self.trusted.shape[1:]
        pixels = (
            np.concatenate(parts) if parts else np.zeros((0, height, width, self.trusted.shape[0]), np.uint8)
        )
        return Labelled(
            tuple(f"synthetic/{i:06d}" for i in range(count)), labels, pixels, self.trusted.classes
        )

    def _batch(self, labelled, n, draw):
        """n images drawn with replacement, in [-1, 1], and their labels; a set stays in 8 bits."""
        rows = torch.randint(len(labelled), (n,), generator=draw)
        return tuple(
            to_device(t, self.device) for t in (labelled.floats(rows.numpy()), labelled.labels[rows])
        )

    def _augment(self):
        """Trusted and synthetic images as one set; made again after a resume, from the GAN's saved
        weights."""
        if self.augmented is None:
            extra = self.synthetic()
            self.augmented = Labelled(
                self.trusted.names + extra.names,
                torch.cat([self.trusted.labels, extra.labels]),
                np.concatenate([self.trusted.pixels, extra.pixels]),
                self.trusted.classes,
            )
        return self.augmented

    def mimic_step(self, i: int, draw: torch.Generator) -> dict[str, torch.Tensor]:
        options, n = self.options, self.options.train_batch_size
        augmented = self._augment()
        slower = (
            1.0
            if options.schedule == "published"
            else min(1.0, 3 * (options.mimic_steps - i) / options.mimic_steps)
        )
        for optimiser in self.optimisers.values():
            for group in optimiser.param_groups:
                group["lr"] = options.critic_lr * slower
        for _ in range(options.n_critic):
            scalars = self._critic_step(*self._batch(augmented, n, draw), draw)
        asked = to_device(torch.randint(self.classes, (n,), generator=draw), self.device)
        self.critic.requires_grad_(False)
        loss = -self.critic(self.mimic_G(self.noise(n, draw), asked), asked).mean()
        training.step_of(self.optimisers["mimic"], loss)
        self.critic.requires_grad_(True)
        return {**scalars, "generator": loss.detach()}

    def _critic_step(self, x, y, draw):
        options, n = self.options, len(x)
        with torch.no_grad():
            fake, fake_y = self.mimic_G(self.noise(n, draw), y), y
        if options.replay:
            earlier = int(options.replay * n) if self.memory.seen else 0
            old, old_y = self.memory.draw(earlier, draw) if earlier else (fake[:0], y[:0])
            self.memory.add(fake[: max(1, n // 8)], y[: max(1, n // 8)], draw)
            fake, fake_y = torch.cat([old, fake[earlier:]]), torch.cat([old_y, y[earlier:]])
        other = to_device(torch.randint(1, self.classes, (n,), generator=draw), self.device)
        wrong = (y + other) % self.classes
        alpha = to_device(torch.rand(n, 1, 1, 1, generator=draw), self.device)
        between = (alpha * x + (1 - alpha) * fake).requires_grad_(True)
        (grad,) = torch.autograd.grad(self.critic(between, y).sum(), between, create_graph=True)
        penalty = (grad.flatten(1).norm(dim=1) - 1).square().mean()
        clean, generated, mislabelled = self.critic(
            torch.cat([x, fake, x]), torch.cat([y, fake_y, wrong])
        ).split(n)
        loss = (
            generated.mean()
            - clean.mean()
            + options.lambda_gp * penalty
            + options.lambda_drift * clean.square().mean()
            + options.lambda_label * F.relu(options.margin - clean + mislabelled).mean()
        )
        training.step_of(self.optimisers["critic"], loss)
        training.update_average(self.average, self.critic, options.critic_ema)
        return {
            "clean": clean.mean().detach(),
            "clean_std": clean.std(correction=0).detach(),
            "generated": generated.mean().detach(),
            "wrong_label": mislabelled.mean().detach(),
            "penalty": penalty.detach(),
        }
