"""Adam as DADFI prints it: the constant stands inside the root."""

from collections.abc import Callable, Iterable

import torch


class PaperAdam(torch.optim.Optimizer):
    """w <- w - lr m_hat / sqrt(v_hat + tau).

    With tau = 1e-6 inside the root no weight moves more than 1000 lr m_hat; the usual 1e-8 outside it allows
    1e8 lr m_hat. For gradients far above 1e-3 both are the same.

    Args:   lr (the paper gives none);  betas (alpha_1, alpha_2);  tau
    Source: Yang et al. 2024, E15-E18
    """

    def __init__(
        self,
        params: Iterable[torch.Tensor],
        lr: float = 2e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        tau: float = 1e-6,
    ):
        if not (lr >= 0 and tau > 0 and all(0 <= b < 1 for b in betas)):
            raise ValueError(f"expected lr >= 0, betas in [0, 1) and tau > 0, found {lr}, {betas} and {tau}")
        super().__init__(params, {"lr": lr, "betas": tuple(betas), "tau": tau})

    @torch.no_grad()
    def step(self, closure: Callable[[], torch.Tensor] | None = None) -> torch.Tensor | None:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            a1, a2 = group["betas"]
            for w in group["params"]:
                if w.grad is None:
                    continue
                state = self.state[w]
                if not state:
                    state.update(step=0, m=torch.zeros_like(w), v=torch.zeros_like(w))
                state["step"] += 1
                m = state["m"].mul_(a1).add_(w.grad, alpha=1 - a1)  # E15
                v = state["v"].mul_(a2).addcmul_(w.grad, w.grad, value=1 - a2)  # E16
                m_hat, v_hat = m / (1 - a1 ** state["step"]), v / (1 - a2 ** state["step"])  # E17
                w.addcdiv_(m_hat, (v_hat + group["tau"]).sqrt(), value=-group["lr"])  # E18
        return loss
