"""Builds the CPU kernel: one source, once per instruction set. A build may fail; hepkan then runs on plain torch."""

from setuptools import Extension, setup

FLAGS = ["-std=c++17", "-O3", "-g0", "-fno-math-errno", "-fno-trapping-math", "-fvisibility=hidden", "-Wno-psabi"]
INSTRUCTION_SETS = {
    "generic": [],
    "avx2": ["-mavx2", "-mfma"],
    "avx512": [f"-mavx512{part}" for part in ("f", "dq", "vl", "bw")] + ["-mfma", "-mprefer-vector-width=512"],
}
FOLDER = "src/hepkan/splines/csrc"

setup(
    ext_modules=[
        Extension(
            f"hepkan.splines._kan_{name}",
            [f"{FOLDER}/kan_layers.cpp"],
            depends=[f"{FOLDER}/{name}.hpp" for name in ("spline", "vectors", "edge_rows", "shared", "single")],
            extra_compile_args=[*FLAGS, *flags],
            extra_link_args=["-pthread"],
            language="c++",
            optional=True,
        )
        for name, flags in INSTRUCTION_SETS.items()
    ]
)
