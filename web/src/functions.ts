// The functions of formulae: values and MathML. Names and meaning are those of hepkan's table of primitives.
import type { Graph, GraphNode } from "./payload";

type One = (u: number) => number;

const sigmoid: One = (u) => (u >= 0 ? 1 / (1 + Math.exp(-u)) : Math.exp(u) / (1 + Math.exp(u)));

export const PRIMITIVES: Record<string, One> = {
  square: (u) => u * u,
  cube: (u) => u * u * u,
  quartic: (u) => u * u * (u * u),
  sqrt: Math.sqrt,
  exp: Math.exp,
  log: Math.log,
  sin: Math.sin,
  cos: Math.cos,
  tan: Math.tan,
  arctan: Math.atan,
  tanh: Math.tanh,
  sigmoid,
  gaussian: (u) => Math.exp(-u * u),
  inverse: (u) => 1 / u,
  inverse_square: (u) => 1 / (u * u),
  abs: Math.abs,
  sign: Math.sign,
  cosh: Math.cosh,
  sinh: Math.sinh,
  arcsin: Math.asin,
  arccos: Math.acos,
  arctanh: Math.atanh,
  silu: (u) => u * sigmoid(u),
};

/** Return a graph as a function of one variable. */
export function compiled(graph: Graph): One {
  const { nodes, outputs } = graph;
  const values = new Float64Array(nodes.length);
  return (x) => {
    for (let n = 0; n < nodes.length; n++) values[n] = value(nodes[n], values, x);
    return values[outputs[0]];
  };
}

function value(node: GraphNode, values: Float64Array, x: number): number {
  const places = node.arguments ?? [];
  switch (node.kind) {
    case "Input":
      return x;
    case "Sum":
      return places.reduce((sum, place, i) => sum + node.coefficients![i] * values[place], node.bias!);
    case "Product":
      return places.reduce((product, place) => product * values[place], 1);
    case "Call":
      return PRIMITIVES[node.primitive!](values[places[0]]);
    default:
      throw new Error(`A candidate must be made of known functions, however: ${node.kind}`);
  }
}

/** Return a number with few digits, as MathML. */
export function mn(x: number): string {
  if (x === 0) return "<mn>0</mn>";
  const size = Math.abs(x);
  const [digits, power] = size >= 1e4 || size < 1e-3 ? size.toExponential(2).split("e") : [String(+size.toPrecision(3)), ""];
  const sign = x < 0 ? "<mo>−</mo>" : "";
  if (!power) return `${sign}<mn>${digits}</mn>`;
  return `${sign}<mn>${+digits}</mn><mo>·</mo><msup><mn>10</mn><mrow>${power.startsWith("-") ? "<mo>−</mo>" : ""}<mn>${Math.abs(+power)}</mn></mrow></msup>`;
}

const brackets = (inner: string) => `<mrow><mo>(</mo>${inner}<mo>)</mo></mrow>`;
const named = (name: string) => (inner: string) => `<mi>${name}</mi><mo>&#8289;</mo>${brackets(inner)}`;
const power = (exponent: string) => (inner: string) => `<msup>${brackets(inner)}${exponent}</msup>`;

const MARKUP: Record<string, (inner: string) => string> = {
  square: power("<mn>2</mn>"),
  cube: power("<mn>3</mn>"),
  quartic: power("<mn>4</mn>"),
  sqrt: (u) => `<msqrt>${u}</msqrt>`,
  exp: (u) => `<msup><mi>e</mi><mrow>${u}</mrow></msup>`,
  gaussian: (u) => `<msup><mi>e</mi><mrow><mo>−</mo><msup>${brackets(u)}<mn>2</mn></msup></mrow></msup>`,
  inverse: (u) => `<mfrac><mn>1</mn><mrow>${u}</mrow></mfrac>`,
  inverse_square: (u) => `<mfrac><mn>1</mn><msup>${brackets(u)}<mn>2</mn></msup></mfrac>`,
  abs: (u) => `<mrow><mo>|</mo>${u}<mo>|</mo></mrow>`,
  sigmoid: named("σ"),
};

const SHAPES = ["Sum", "Product", "Call"];

/** Return a graph as MathML; inputs and functions that are no formula are written by the callers. */
export function mathml(graph: Graph, root: number, input: (column: number) => string): string {
  const node = graph.nodes[root];
  const inner = (place: number) => mathml(graph, place, input);
  const places = node.arguments ?? [];
  if (node.kind === "Input") return input(node.column!);
  if (node.kind === "Call") return (MARKUP[node.primitive!] ?? named(node.primitive!))(inner(places[0]));
  if (node.kind === "Product") return places.map((place) => factor(graph, place, inner(place))).join("<mo>·</mo>");
  if (!SHAPES.includes(node.kind)) return `<mi>φ</mi>${brackets(inner(places[0]))}`;
  let text = "";
  places.forEach((place, i) => {
    const c = node.coefficients![i];
    if (c === 0) return;
    text += c < 0 ? "<mo>−</mo>" : text ? "<mo>+</mo>" : "";
    if (Math.abs(Math.abs(c) - 1) > 1e-12) text += `${mn(Math.abs(c))}<mo>·</mo>`;
    text += factor(graph, place, inner(place));
  });
  const bias = node.bias!;
  if (bias !== 0 || !text) text += (bias < 0 ? "<mo>−</mo>" : text ? "<mo>+</mo>" : "") + mn(Math.abs(bias));
  return text;
}

function factor(graph: Graph, place: number, text: string): string {
  return graph.nodes[place].kind === "Sum" ? brackets(text) : text;
}

/** Return a label of HTML with subscripts and superscripts as MathML. */
export function labelMath(html: string): string {
  const holder = document.createElement("template");
  holder.innerHTML = html;
  return `<mrow>${children(holder.content)}</mrow>`;
}

function children(parent: Node): string {
  const parts: string[] = [];
  for (const node of parent.childNodes) {
    const tag = node instanceof Element ? node.tagName.toLowerCase() : "";
    if (tag === "sub" || tag === "sup") {
      const before = parts.pop() ?? "<mtext></mtext>";
      const [base, rest] = lastOf(before);
      parts.push(`${rest}<m${tag}>${base}<mrow>${children(node)}</mrow></m${tag}>`);
    } else if (tag) parts.push(`<mrow>${children(node)}</mrow>`);
    else parts.push(token(node.textContent ?? ""));
  }
  return parts.join("");
}

/** Split text so that a script belongs to its last letter. */
function lastOf(markup: string): [string, string] {
  const match = /^<mtext>(.*)<\/mtext>$/s.exec(markup);
  if (!match || match[1].length < 2 || match[1].includes("&")) return [markup, ""];
  return [`<mtext>${match[1].slice(-1)}</mtext>`, `<mtext>${match[1].slice(0, -1)}</mtext>`];
}

function token(text: string): string {
  const safe = text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/ /g, "\u00a0");
  return text ? `<mtext>${safe}</mtext>` : "";
}
