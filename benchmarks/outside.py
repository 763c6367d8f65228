"""Networks that do not run in torch: jaxKAN under jax.jit, and an MLP in onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
from players import Case, Player
from torch import nn


def jaxkan(case: Case) -> Player:
    """Return jaxKAN with its faster spline layer; the whole step is one compiled function that reuses its memory.

    XLA keeps freed memory, so the peak is what its compiler has planned; it agrees with the system for large steps.
    """
    import jax
    import optax
    from flax import nnx
    from jaxkan.models.KAN import KAN as JaxKAN

    model = JaxKAN(list(case.widths), "spline", {"k": 3, "G": case.grid, "grid_range": (-1.0, 1.0)}, seed=0)
    graph, first, fixed = nnx.split(model, nnx.Param, ...)
    x, target = (jax.numpy.asarray(t.numpy()) for t in case.data())
    optimiser = optax.adam(1e-3)

    def predict(parameters: Any, x: Any) -> Any:
        return nnx.merge(graph, parameters, fixed)(x)

    def loss(parameters: Any, x: Any, target: Any) -> Any:
        return jax.numpy.mean((predict(parameters, x) - target) ** 2)

    def step(parameters: Any, state: Any, x: Any, target: Any) -> tuple[Any, Any]:
        updates, state = optimiser.update(jax.grad(loss)(parameters, x, target), state, parameters)
        return optax.apply_updates(parameters, updates), state

    fast_step, fast_predict = jax.jit(step, donate_argnums=(0, 1)), jax.jit(predict)
    now = [first, optimiser.init(first)]

    def train() -> None:
        now[:] = fast_step(*now, x, target)
        jax.block_until_ready(now)

    def infer() -> None:
        fast_predict(now[0], x).block_until_ready()

    def planned() -> int:
        return int(fast_step.lower(*now, x, target).compile().memory_analysis().temp_size_in_bytes)

    parameters = sum(leaf.size for leaf in jax.tree_util.tree_leaves(first))
    actions = {"train": train, "infer": infer}
    return Player(parameters=parameters, actions=actions, peak_bytes=planned, compiles=True)


def onnxruntime_mlp(model: nn.Sequential, case: Case, threads: int) -> Player:
    """Return inference of a torch MLP in onnxruntime."""
    x = case.data()[0].numpy()
    session = onnx_session(model, threads)

    def infer() -> None:
        session.run(None, {"x": x})

    return Player(parameters=sum(p.numel() for p in model.parameters()), actions={"infer": infer})


def onnx_session(model: nn.Sequential, threads: int) -> Any:
    """Return an onnxruntime session of linear layers and ReLU; its threads sleep between calls."""
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    nodes, weights, name = [], [], "x"
    for n, part in enumerate(model):
        result = f"h{n}"
        if isinstance(part, nn.Linear):
            values = {f"weight{n}": part.weight, f"bias{n}": part.bias}
            weights += [numpy_helper.from_array(np.array(t.detach()), key) for key, t in values.items()]
            nodes.append(helper.make_node("Gemm", [name, *values], [result], transB=1))
        else:
            nodes.append(helper.make_node("Relu", [name], [result]))
        name = result
    ends = {"x": model[0].in_features, name: model[-1].out_features}
    inputs, outputs = (
        [helper.make_tensor_value_info(end, TensorProto.FLOAT, ["batch", width])] for end, width in ends.items()
    )
    graph = helper.make_graph(nodes, "mlp", inputs, outputs, weights)
    content = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads, settings.inter_op_num_threads = threads, 1
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(content.SerializeToString(), settings, ["CPUExecutionProvider"])
