"""Tries a model and a loss for seconds, before anything is trained for hours: what would fail late, or pass unseen.

Each probe yields what is wrong as findings that say what to change. All of them run on the CPU, on a few small images.
"""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

from deeploc_bench.contract.errors import DeeplocError, PluginError, reason_of
from deeploc_bench.contract.findings import Finding
from deeploc_bench.contract.isolation import guarded
from deeploc_bench.contract.registry import Owned
from deeploc_bench.contract.specs import Model
from deeploc_bench.plan.losses import LossExpression
from deeploc_bench.plan.plan import Training
from deeploc_bench.training.build import build_loss, build_model, logits_of

SIDE = 64
"""The height and width of most images that are tried, in pixels."""
TOLERANCE = 1e-3
"""How far logits of one image may lie apart, in parts of the largest: another batch size is computed otherwise."""
PUSHES = 20
"""Steps of descent that would bring any logit below 0 that may be."""
Size = tuple[int, int]
Findings = Iterator[Finding]


def rehearse(training: Training) -> None:
    """Try a training's model and loss, at sizes of its data, and leave the global random stream as it is.

    Raises PluginError with all that is wrong, or WeightsError.
    """
    recipe = training.recipe
    sizes = sorted({tuple(shape) for pack, _ in training.valid.packs for shape in pack.shapes.tolist()})
    about = (training.model, recipe.weights, recipe.input_size)
    findings = model_findings(*about, sizes[:1], side=recipe.size, is_trained=bool(training.loss))
    if training.loss and not findings:
        findings = [*loss_findings(training.loss), *gradient_findings(*about, training.loss, side=recipe.size)]
    # a loss that is not finite may be so on other logits, and fails its own training, not those of all others
    errors = [str(finding) for finding in findings if finding.is_error and finding.check != "loss-finite"]
    if errors:
        raise PluginError("\n  ".join(errors))


def model_findings(
    model: Owned[Model],
    weights: str,
    input_size: int | None,
    sizes: Sequence[Size],
    *,
    side: int = SIDE,
    is_trained: bool = True,
) -> list[Finding]:
    """Return what is wrong with the logits of a model as it is built, in eval mode, at a side and some other sizes.

    Raises PluginError or WeightsError where it cannot be built, or returns no logits at all.
    """
    where = model.title
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = build_model(model, weights)

        def forward(images: Tensor) -> Tensor:
            try:
                return logits_of(module, images, model, input_size)
            except DeeplocError:
                raise
            except (Exception, SystemExit) as error:
                raise PluginError(
                    f"{where} cannot localize images {tuple(images.shape)}: {reason_of(error)}"
                ) from error

        found = list(_state_findings(where, module))
        module.eval()
        with torch.no_grad():
            for size in sizes:
                forward(torch.rand(2, 3, *size))
            found += _logit_findings(where, forward, torch.rand(2, 3, side, side))
        return found + (
            list(_probability_findings(where, module, forward, torch.rand(2, 3, side, side))) if is_trained else []
        )


def loss_findings(expression: LossExpression) -> Findings:
    """Yield what is wrong with each loss by itself: no scalar, no finite number, always 0, or the wrong way round."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        masks = (torch.rand(2, 1, SIDE, SIDE) > 0.7).float()
        for _, owned in expression.terms:
            where = owned.title
            try:
                with guarded(where):
                    loss = owned.spec.build()
                noise, right, wrong = (loss(logits, masks) for logits in (torch.randn_like(masks), *_answers(masks)))
            except (Exception, SystemExit) as error:
                yield Finding(check="loss", message=f"{where} cannot be computed: {reason_of(error)}")
                continue
            yield from _value_findings(where, noise, right, wrong)


def gradient_findings(
    model: Owned[Model], weights: str, input_size: int | None, expression: LossExpression, *, side: int = SIDE
) -> list[Finding]:
    """Return what is wrong with the gradients of one step of two images, and with the weights before and after it."""
    where, text = model.title, f"loss {expression.text!r}"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = build_model(model, weights).train()
        trained = {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}
        if not trained:
            return [Finding(check="frozen", message=f"{where} has no parameter that can be trained; unfreeze some")]
        before = {name: value.shape for name, value in module.state_dict().items()}
        try:
            logits = logits_of(module, torch.rand(2, 3, side, side), model, input_size)
            value = build_loss(expression)(logits, (torch.rand(logits.shape) > 0.5).float())
            if not value.requires_grad:
                message = f"{text} of {where} has no gradient: nothing can be trained. Detach nothing in model or loss."
                return [Finding(check="gradient", message=message)]
            value.backward()  # type: ignore[no-untyped-call]
        except DeeplocError:
            raise
        except (Exception, SystemExit) as error:
            return [
                Finding(check="step", message=f"{where} cannot take a step of training with {text}: {reason_of(error)}")
            ]
        return [*_idle_findings(where, trained), *_growth_findings(where, before, module)]


def _state_findings(where: str, module: nn.Module) -> Findings:
    lazy = [name for name, value in module.named_parameters() if isinstance(value, nn.UninitializedParameter)]
    if lazy:
        message = (
            f"{where} has lazy parameters ({_listed(lazy)}): give their layers all sizes, or run the model in build"
        )
        yield Finding(check="lazy", message=message)
        return
    extra = [name for name, value in module.state_dict().items() if not isinstance(value, Tensor)]
    if extra:
        message = f"{where} has state that is no tensor ({_listed(extra)}), which cannot be stored; keep it in buffers"
        yield Finding(check="state", message=message)
    wide = [name for name, value in module.named_parameters() if value.dtype == torch.float64]
    if wide:
        yield Finding(check="dtype", message=f"{where} has float64 parameters ({_listed(wide)}); make them float32")


def _logit_findings(where: str, forward: Callable[[Tensor], Tensor], images: Tensor) -> Findings:
    kept = images.clone()
    logits = forward(images)
    if not torch.equal(images, kept):
        yield Finding(check="in-place", message=f"{where} changes its images in place; work on a copy")
    for name, level in (("black", 0.0), ("white", 1.0)):
        if not forward(torch.full_like(images, level)).isfinite().all():
            message = f"{where} returns logits that are not finite on {name} images; divide by nothing that can be 0"
            yield Finding(check="finite", message=message)
    if not logits.isfinite().all():
        yield Finding(check="finite", message=f"{where} returns logits that are not finite")
        return
    reach = TOLERANCE * max(1.0, float(logits.abs().max()))
    if not torch.allclose(forward(kept.clone()), logits, rtol=0, atol=reach):
        message = f"{where} returns other logits for the same images in eval mode; leave out what is random there"
        yield Finding(check="random", message=message)
    elif not torch.allclose(forward(kept[:1].clone()), logits[:1], rtol=0, atol=reach):
        message = f"{where} returns other logits for an image beside another; nothing in it may look over the batch"
        yield Finding(check="batch", message=message)


def _probability_findings(
    where: str, module: nn.Module, forward: Callable[[Tensor], Tensor], images: Tensor
) -> Findings:
    """Find a model that returns probabilities: its logits lie in [0, 1], and no descent brings them below 0."""
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    logits = forward(images)
    if logits.min() < 0 or logits.max() > 1 or not parameters or not logits.requires_grad:
        return
    optimizer = torch.optim.Adam(parameters, lr=0.1)
    for _ in range(PUSHES):
        optimizer.zero_grad()
        forward(images).mean().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    with torch.no_grad():
        if forward(images).min() >= 0:
            message = (
                f"{where} returns numbers that never fall below 0, as probabilities; return logits, without sigmoid"
            )
            yield Finding(check="logits", message=message)


def _value_findings(where: str, noise: Tensor, right: Tensor, wrong: Tensor) -> Findings:
    if noise.ndim != 0:
        message = f"{where} returned shape {tuple(noise.shape)}; expected a scalar. Return loss.mean()."
        yield Finding(check="loss", message=message)
    elif not (noise.isfinite() and right.isfinite() and wrong.isfinite()):
        yield Finding(check="loss-finite", message=f"{where} is not finite for random logits, or those of -8 and 8")
    elif noise == right == wrong:
        yield Finding(check="loss", message=f"{where} is {float(noise) + 0.0:g} whatever is predicted")
    elif right >= wrong:
        message = f"{where} is lower for the opposite of the mask than for the mask; a loss falls as logits get right"
        yield Finding(check="loss", message=message)


def _answers(masks: Tensor) -> tuple[Tensor, Tensor]:
    """Return logits that are right everywhere, and such as are wrong everywhere, both (N, 1, H, W)."""
    return 16 * masks - 8, 8 - 16 * masks


def _idle_findings(where: str, trained: dict[str, nn.Parameter]) -> Findings:
    idle = [name for name, parameter in trained.items() if parameter.grad is None]
    share = sum(trained[name].numel() for name in idle) / sum(parameter.numel() for parameter in trained.values())
    if idle:
        message = f"{where}: {len(idle)} of {len(trained)} parameters get no gradient ({_listed(idle)})"
        cure = "detach nothing between them and the logits, or freeze them by requires_grad_(False)"
        yield Finding(check="idle", message=f"{message}; {cure}", level="error" if share > 0.5 else "warning")


def _growth_findings(where: str, before: dict[str, torch.Size], module: nn.Module) -> Findings:
    after = {name: value.shape for name, value in module.state_dict().items()}
    changed = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    if changed:
        message = (
            f"{where} has other tensors after a step than before ({_listed(changed)}), so that no stored weights fit"
        )
        yield Finding(check="state", message=f"{message}; make all buffers in build, at their final shape")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
