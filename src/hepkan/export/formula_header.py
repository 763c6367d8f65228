"""A formula as a C++17 header with the interface of the headers of networks."""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, softmax

import hepkan
from hepkan.export.text_values import cpp_values

if TYPE_CHECKING:
    from hepkan.interpret.formula import Formula

Floats = NDArray[np.float64]

_LINKS = {
    "identity": "for (int n = 0; n < outputs; ++n) y[n] = static_cast<T>(z[n]);",
    "sigmoid": "for (int n = 0; n < outputs; ++n) y[n] = static_cast<T>(1.0 / (1.0 + std::exp(-z[n])));",
    "softmax": """double top = z[0], sum = 0.0;
        for (int n = 1; n < outputs; ++n) top = z[n] > top ? z[n] : top;
        for (int n = 0; n < outputs; ++n) sum += (z[n] = std::exp(z[n] - top));
        for (int n = 0; n < outputs; ++n) y[n] = static_cast<T>(z[n] / sum);""",
}


def calls(outputs: int) -> str:
    """Return what every header offers besides `evaluate`: one event by value, and many events row after row."""
    value = "T" if outputs == 1 else "std::array<T, outputs>"
    call = "T y;\n        evaluate(x, &y);" if outputs == 1 else f"{value} y;\n        evaluate(x, y.data());"
    return f"""    {value} operator()(const T* x) const {{
        {call}
        return y;
    }}

    // Events row after row: x[events][inputs] to y[events][outputs].
    void operator()(const T* x, std::size_t events, T* y) const {{
        for (std::size_t n = 0; n < events; ++n) evaluate(x + n * inputs, y + n * outputs);
    }}
"""


def header(formula: Formula, namespace: str) -> str:
    """Return the header around the statements of a formula."""
    from hepkan.interpret.text import to_cpp

    statements, outputs = to_cpp(formula.roots, [f"x[{i}]" for i in range(formula.n_features)])
    body = "\n        ".join(statements)
    used = sorted(set(re.findall(r"\b([a-z]+)\(", body)))
    using = " ".join(f"using std::{name};" for name in used)
    digest = hashlib.sha256(body.encode()).hexdigest()[:12]
    guard = re.sub(r"\W", "_", f"HEPKAN_{namespace}_FORMULA_HPP", flags=re.ASCII)
    names = ", ".join(json.dumps(name[:200].encode("ascii", "replace").decode()) for name in formula.names)
    results = "\n        ".join(f"z[{n}] = {name};" for n, name in enumerate(outputs))
    return f"""// A formula of {len(formula.used)} features, written by hepkan {hepkan.__version__}.
//     {namespace}::Network<double> formula;  // or <float>; evaluated in double either way
//     formula(features);                  // one event, raw features in the order of feature_names
//     formula(features, n, predictions);  // n events, row after row
// C++17, standard library only. Not with -ffast-math.
// link: {formula.link}
#ifndef {guard}
#define {guard}

#include <array>
#include <cmath>
#include <cstddef>

namespace {namespace} {{
inline namespace formula_{digest} {{

inline constexpr int inputs = {formula.n_features}, outputs = {len(formula.roots)};
inline constexpr const char* feature_names[inputs] = {{{names}}};

template <class T = double>
struct Network {{
    // The outputs before the link.
    static void logits([[maybe_unused]] const double* x, double* z) {{
        {using}
        // formula
        {body}
        // end
        {results}
    }}

    // One event: x[inputs] to y[outputs].
    static void evaluate(const T* x, T* y) {{
        double wide[inputs], z[outputs];
        for (int n = 0; n < inputs; ++n) wide[n] = static_cast<double>(x[n]);
        logits(wide, z);
        {_LINKS[formula.link]}
    }}

{calls(len(formula.roots))}}};

}}  // namespace formula_{digest}
}}  // namespace {namespace}

#endif
"""


def header_values(text: str, events: Floats) -> Floats:
    """Return the predictions of a header's statements, read from its text; `(n, features)` to `(n, outputs)`."""
    body = text.partition("        // formula\n")[2].partition("        // end\n")[0]
    outputs = re.findall(r"z\[\d+\] = (\w+|x\[\d+\]);", text)
    values = np.stack([cpp_values(f"{body} return {name};", {}, events) for name in outputs], axis=1)
    link = text.partition("// link: ")[2].partition("\n")[0]
    if link == "sigmoid":
        return np.asarray(expit(values))
    return np.asarray(softmax(values, axis=1)) if link == "softmax" else values
