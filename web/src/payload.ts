// What Python embeds in the page, and its arrays as numbers.

export interface Encoded {
  shape: number[];
  type: "f4" | "f8" | "u1" | "u2";
  data: string;
}

export interface Named {
  name: string;
  unit: string;
  label: string;
  scale?: number;
}

export interface GraphNode {
  kind: string;
  arguments?: number[];
  column?: number;
  coefficients?: number[];
  bias?: number;
  primitive?: string;
}

export interface Graph {
  nodes: GraphNode[];
  outputs: number[];
}

export interface Candidate {
  name: string;
  r2: number;
  complexity: number;
  body: Graph;
}

export interface RawLayer {
  inputs: number;
  sums: number;
  products: number;
  knots: Encoded;
  coef: Encoded;
  base: Encoded | null;
  bias: Encoded | null;
  mask: Encoded;
  mean: Encoded;
  std: Encoded;
  share: Encoded;
  range: [number, number][];
}

export interface Payload {
  format: number;
  version: string;
  title: string;
  question: string;
  run: string;
  network: string;
  sha256: string;
  kind: "binary" | "classes" | "regression";
  classes: string[];
  degree: number;
  base: string;
  widths: number[];
  parameters: number;
  inputs: Named[];
  outputs: string[];
  targets: Named[];
  map:
    | { kind: "quantile"; x: Encoded; z: Encoded }
    | { kind: "standard"; mean: number[]; scale: number[] }
    | { kind: "none" };
  layers: RawLayer[];
  output_map: { mean: number[]; scale: number[] } | null;
  head: { name: string; mass: number | null; mass_scale: number; mean: number[]; scale: number[] } | null;
  sample: {
    n: number;
    x: Encoded;
    target: Encoded;
    weight: Encoded;
    process: Encoded;
    processes: string[];
    met: Encoded | null;
  };
  metric: { name: string; value: number; title: string };
  explained: Record<string, { band?: Encoded; candidates: Candidate[] }>;
  notes: string[];
  formula: (Graph & { labels: string[]; link: string }) | null;
}

/** Return the numbers of an array in double precision. */
export function numbers(array: Encoded): Float64Array {
  const text = atob(array.data);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  const buffer = bytes.buffer;
  const types = { f4: Float32Array, f8: Float64Array, u1: Uint8Array, u2: Uint16Array };
  return Float64Array.from(new types[array.type](buffer));
}
