"""The Triton kernel without a GPU: its cases under Triton's interpreter, and that it compiles for GPUs.

The interpreter has to be chosen before Triton is imported, so the cases run in a process of their own. On a machine
with CUDA they run there, compiled.
"""

from __future__ import annotations

import importlib.util
import itertools
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from hepkan.errors import UsageError
from hepkan.splines import ops, triton_gpu
from hepkan.splines.basis import Layer

CASES = Path(__file__).with_name("triton_cases.py")
needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="Triton is not installed: pip install 'hepkan[gpu]'"
)


def in_a_process(*command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {name: text for name, text in os.environ.items() if name != "TRITON_INTERPRET"} | variables
    return subprocess.run([sys.executable, *command], env=environment, capture_output=True, text=True, check=False)


@needs_triton
@pytest.mark.slow
def test_the_cases_pass():
    variables = {} if torch.cuda.is_available() else {"TRITON_INTERPRET": "1"}
    done = in_a_process("-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", str(CASES), **variables)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"\d\d passed", done.stdout)


@needs_triton
@pytest.mark.slow
@pytest.mark.parametrize("capability", [80, 90])
def test_the_kernels_compile_for_gpus(capability, monkeypatch, tmp_path):
    """Triton compiles for a GPU that is not there; the code has neither TF32 nor atomic additions."""
    if os.environ.get("TRITON_INTERPRET") == "1":
        pytest.skip("TRITON_INTERPRET=1 leaves nothing to compile")
    triton = pytest.importorskip("triton")
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    types = {torch.float32: "*fp32", torch.float64: "*fp64", int: "i32"}
    for dtype, sizes in itertools.product([torch.float32, torch.float64], [(43, 30, 5), (1, 1, 1)]):
        for kernel, arguments, constants in launches(monkeypatch, dtype, *sizes):
            # As Triton does at a launch, a size of one becomes a constant.
            ones = [n for n, a in arguments.items() if not torch.is_tensor(a) and a == 1]
            fixed = {n: arguments[n] for n in ones if n not in ("batch", "part_blocks")}
            fixed |= {n: None for n, a in arguments.items() if a is None}
            signature = {n: types[getattr(a, "dtype", int)] for n, a in arguments.items()}
            signature |= dict.fromkeys(fixed | constants, "constexpr")
            source = ASTSource(kernel, {n: signature[n] for n in kernel.arg_names}, constexprs=fixed | constants)
            compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=triton_gpu.LAUNCH)
            assert compiled.asm["cubin"] and not re.search(r"tf32|\batom\b|\bred\.global", compiled.asm["ptx"])


def launches(monkeypatch, dtype, inputs, outputs, intervals):
    """Every kernel that a training step of a cubic layer launches, with its arguments, and nothing run."""
    taken = []

    def note(kernel, programs, tensors, sizes, constants, **tiles):
        taken.append((kernel, dict(zip(kernel.arg_names, [*tensors, *sizes], strict=False)), {**constants, **tiles}))

    monkeypatch.setattr(triton_gpu, "interpreted", lambda: True)
    monkeypatch.setattr(triton_gpu, "_launch", note)
    shapes = [(50, inputs), (inputs, intervals + 7), (inputs, intervals + 3, outputs), (inputs, outputs), (outputs,)]
    x, knots, *parameters = (torch.zeros(shape, dtype=dtype, requires_grad=n != 1) for n, shape in enumerate(shapes))
    triton_gpu.kan_stack(x, [Layer(knots, *parameters)], 3, "silu").sum().backward()
    assert [one[0].__name__ for one in taken] == ["forward", "backward_x", "backward_parameters"]
    return taken


@needs_triton
def test_triton_is_not_imported_before_it_is_needed():
    code = "import sys, hepkan.splines as s; s.available(); print('triton' in sys.modules)"
    assert in_a_process("-c", code).stdout.strip() == "False"


def test_reasons_against_this_machine(monkeypatch):
    reason = triton_gpu.reason_unusable.__wrapped__
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "pip install 'hepkan[gpu]'" in reason()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "no CUDA device" in reason()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setitem(sys.modules, "triton", SimpleNamespace(__version__="3.4.0"))
    assert "3.5 or later is needed, however: 3.4.0" in reason()
    monkeypatch.setitem(sys.modules, "triton", SimpleNamespace(__version__="3.10.0+git1"))
    assert reason() is None


def test_reasons_against_a_call(monkeypatch):
    monkeypatch.setattr(triton_gpu, "reason_unusable", lambda: None)
    cuda = SimpleNamespace(device=torch.device("cuda"), dtype=torch.float32)
    assert triton_gpu.supports(cuda, 3, "silu") is None
    assert "degree=6" in triton_gpu.supports(cuda, 6, "silu")
    assert "'relu'" in triton_gpu.supports(cuda, 3, "relu")
    cuda.dtype = torch.bfloat16
    assert triton_gpu.supports(cuda, 3, "silu") is None
    cuda.dtype = torch.int64
    assert "int64" in triton_gpu.supports(cuda, 3, "silu")
    assert "x.device=cpu" in triton_gpu.supports(torch.zeros(2, 3), 3, "silu")


def test_tensors_on_the_cpu_are_never_served(monkeypatch):
    monkeypatch.setattr(triton_gpu, "interpreted", lambda: False)
    x, layer = torch.zeros(2, 3), Layer(torch.arange(8.0).expand(3, -1), torch.zeros(3, 4, 2))
    assert ops.chosen() != "triton"
    with pytest.raises(UsageError, match="'triton' was asked for"):
        ops.kan_stack(x, [layer], 3, backend="triton")
    with pytest.raises(ValueError, match="CUDA"):
        triton_gpu.kan_stack(x, [layer], 3, "silu")


@pytest.mark.parametrize("batch", [0, 1, 255, 256, 1024, 65536, 10_000_000])
def test_parts_hold_all_events_and_bound_the_memory(batch):
    for programs in (1, 3, 43, 1024, 100_000):
        parts = triton_gpu._parts(batch, programs)
        blocks = -(-batch // triton_gpu.DOT_EVENTS)
        assert parts >= 1 and parts * -(-blocks // parts) >= blocks
        assert (parts - 1) * programs <= triton_gpu.PROGRAMS
        assert parts == 1 or batch / parts > triton_gpu.PART_EVENTS / 2
