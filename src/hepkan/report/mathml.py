"""A formula as MathML, which browsers draw without a script or a font of the page's own."""

from __future__ import annotations

from pathlib import Path

import sympy
from markupsafe import Markup, escape
from sympy.printing.mathml import mathml

from hepkan.interpret.formula import Formula

LINKS = {"identity": "", "sigmoid": "the score is 1 / (1 + exp(−f))", "softmax": "scores are the softmax of all f"}


def formula_markup(path: Path, outputs: list[str]) -> Markup:
    """Return the outputs of a formula's file, one after another, a term of the outermost sum on every line.

    Raises:
        DataError: the file is no formula.
    """
    formula = Formula.load(path)
    names = outputs if len(outputs) == len(formula.roots) else [f"f{n + 1}" for n in range(len(formula.roots))]
    if len(formula.roots) == 1 and not outputs:
        names = ["f"]
    parts = [_equation(name, formula.sympy(output, pieces=False)) for output, name in enumerate(names)]
    note = LINKS[formula.link]
    after = Markup('<p class="soft">{}</p>').format(f"f is the output of the network; {note}.") if note else Markup()
    return Markup('<div class="scroll formula" tabindex="0" role="region" aria-label="Formula">{}</div>{}').format(
        Markup().join(parts), after
    )


def _equation(name: str, expression: sympy.Expr, digits: int = 4) -> Markup:
    """Return an equation; numbers are shortened."""
    short = expression.xreplace({one: sympy.Float(one, digits) for one in expression.atoms(sympy.Float)})
    terms = sorted(sympy.Add.make_args(short), key=lambda one: (not one.free_symbols, sympy.default_sort_key(one)))
    rows = []
    for place, term in enumerate(terms):
        negative = term.could_extract_minus_sign()
        sign = ("−" if negative else "+") if place or negative else ""
        body = mathml(-term if negative else term, printer="presentation")
        left = Markup("<mi>{}</mi><mo>=</mo>").format(escape(name)) if place == 0 else Markup()
        row = '<mtr><mtd class="left">{}</mtd><mtd><mo form="prefix">{}</mo></mtd><mtd class="term">{}</mtd></mtr>'
        rows.append(Markup(row).format(left, sign, Markup(body)))
    return Markup('<math display="block"><mtable>{}</mtable></math>').format(Markup().join(rows))
