"""`fit`: the door of training. Everything is checked here, the maps are learned, and the loop of `Training` runs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from hepkan.data import ParquetStream, Policy, Table
from hepkan.errors import UsageError
from hepkan.losses import Loss, get_loss, link_of
from hepkan.nn import Network
from hepkan.train.progress import Progress
from hepkan.train.settings import Settings, default
from hepkan.train.sources import Arrays, Source, in_memory
from hepkan.train.streaming import Streamed
from hepkan.train.training import FitResult, Training


def fit(
    model: Network,
    train: Table | Arrays | ParquetStream,
    validation: Table | Arrays | ParquetStream | None = None,
    *,
    loss: str = "cross_entropy",
    optimizer: str = "adamw",
    learning_rate: float | None = None,
    weight_decay: float | None = None,
    epochs: int = 50,
    batch: int = 1024,
    patience: int = 8,
    schedule: str = "cosine",
    seed: int = 0,
    regularisers: Mapping[str, float] | None = None,
    gradient_clip: float | None = None,
    grid_updates: int = 0,
    average: float = 0.0,
    negative_weights: Policy = "abs",
    checkpoint: str | Path | None = None,
    progress: Progress | bool | None = None,
    fit_inputs: bool = True,
) -> FitResult:
    r"""Train a network in place and leave it with the weights of its best epoch.

    .. math:: L = \frac{1}{N} \sum_n w_n \, \ell(f(x_n), y_n) + \sum_r \lambda_r R_r,
              \qquad \langle w \rangle = 1

    Each step takes its share of the sum, so a short last batch counts for the events it has. Regression
    losses are those of standardised targets. Whatever ends the training (also Ctrl-C), the model has the best
    weights so far.

    Arguments:
        model: its input map, and the scale of regression targets, are learned first; its `link` is set.
        train: a `Table`, whose classes are balanced, (X, y) or (X, y, weight), taken as it is, or for more events than
            memory holds a `hepkan.data.ParquetStream`, balanced as a table; the maps are learned from at most 100,000
            of its rows at equal steps.
        validation: the same; chooses the best epoch and stops early. Without it the last epoch counts.
        loss: `cross_entropy`, `soft_cross_entropy` (probabilities in place of labels), `mse`, `mae` or `huber`.
        optimizer: `adamw`, `adam`, `sgd` (momentum 0.9), or `lbfgs` for small problems: a quasi-Newton method with line
            search that needs `batch` to hold all events; an epoch is 20 of its iterations.
        learning_rate: of the first step, 0.005 if None; `cosine` leads it to zero at the last possible step. For
            `lbfgs` the length that its line search tries first, 1 if None, whatever the schedule.
        weight_decay: of weights and spline coefficients, not of biases; 0.2 if None. For `lbfgs` the strength of a
            term :math:`\lambda / 2 \sum w^2` of the loss, 0 if None.
        epochs: at most.
        batch: events per step.
        patience: epochs without a better validation loss before training stops.
        schedule: `cosine` or `constant`.
        seed: of the order of events and of dropout; the global random state stays as it is.
        regularisers: strengths of penalties on the edges of a KAN, `{"l1": 1e-3}`; see `hepkan.losses`.
        gradient_clip: largest norm of the gradient.
        grid_updates: after each of so many first epochs the knots of a KAN follow the training data, layer after
            layer, see `hepkan.update_grid`; then they stay.
        average: decay per step of a moving average of the weights, 0.999 say; the averaged weights are validated, kept
            and returned. It begins anew when the knots move. 0 for none.
        negative_weights: policy for a `Table` or a stream, see `Table.training_weights`.
        checkpoint: file written after each epoch, from which the same call continues to the identical result;
            removed when training is complete.
        progress: called after each epoch; True shows a bar on standard error.
        fit_inputs: False keeps the maps that the model already has.

    Raises:
        UsageError: unknown name, impossible number, shapes that do not fit, a checkpoint of another training, grid
            updates without a KAN, `lbfgs` with a batch below the number of events.
        DataError: NaN in the data, labels that are not classes, weights without a positive sum, a damaged
            checkpoint.
        DivergenceError: the loss is not finite.

    **Several processes.** Where `torch.distributed` is initialised, every process calls `fit` with the same model, data
    and settings. Each takes its share of every batch, gradients are summed, and all end with the same weights: those of
    one process with the same batch, to rounding. The first process writes the checkpoint and shows progress. With
    `torchrun --nproc-per-node 4 training.py`:

        torch.distributed.init_process_group("gloo")  # "nccl", and the model on cuda:LOCAL_RANK, for GPUs
        hepkan.fit(model, train, validation, batch=4096)
    """
    rate, decay = default(optimizer, learning_rate, weight_decay)
    settings = Settings(
        loss=loss,
        optimizer=optimizer,
        learning_rate=rate,
        weight_decay=decay,
        epochs=epochs,
        batch=batch,
        patience=patience,
        schedule=schedule,
        seed=seed,
        regularisers=dict(regularisers or {}),
        gradient_clip=gradient_clip,
        grid_updates=grid_updates,
        average=average,
        fit_inputs=fit_inputs,
    )
    function = get_loss(loss)
    sources: list[Source] = [
        Streamed(part, model, loss, negative_weights)
        if isinstance(part, ParquetStream)
        else in_memory(part, model, loss, negative_weights)
        for part in (train, validation)
        if part is not None
    ]
    settings.check(model, sources[0].n)
    if model.head is not None and function.classification:
        raise UsageError(f"The head {model.head.name!r} needs a loss of regression, however: {loss!r}. Take 'mae'.")
    model.link = link_of(loss, model.widths[-1])
    if isinstance(train, Table | ParquetStream):
        model.feature_names = list(train.names)
    if fit_inputs:
        _learn_maps(model, sources[0], function)
    for source in sources:
        source.map(model, function)
    training = Training(model, function, settings, sources[0], sources[1] if len(sources) > 1 else None)
    return training.run(None if checkpoint is None else Path(checkpoint), progress)


def _learn_maps(model: Network, source: Source, function: Loss) -> None:
    """Learn the input map, and the scale of regression targets."""
    events = source.to_learn()
    model.fit_inputs(events.z, events.weight)
    if not function.classification:
        model.fit_outputs(events.target, events.weight)
