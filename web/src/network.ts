// The arithmetic of the network in double precision: the splines of hepkan, edited edge by edge.
import { compiled } from "./functions";
import { numbers, type Candidate, type Payload } from "./payload";

export type Edit = { kind: "remove" } | { kind: "replace"; place: number; candidate: Candidate };

/** One layer as it was trained. */
export interface Layer {
  inputs: number;
  sums: number;
  outputs: number;
  products: number;
  grid: number;
  knots: Float64Array;
  coef: Float64Array;
  base: Float64Array | null;
  bias: Float64Array;
  mask: Float64Array;
  mean: Float64Array;
  std: Float64Array;
  share: Float64Array;
  range: [number, number][];
}

interface Replaced {
  input: number;
  sum: number;
  f: (x: number) => number;
}

/** The numbers of a layer after edits, edge by edge zero where it is no spline any more. */
interface Edited {
  coef: Float64Array;
  base: Float64Array | null;
  bias: Float64Array;
  used: Uint8Array;
  replaced: Replaced[];
}

/** The values of one event: inputs of each layer, sums before products, network outputs. */
export interface Pass {
  nodes: Float64Array[];
  sums: Float64Array[];
}

const BASES: Record<string, (x: number) => number> = {
  silu: (x) => x / (1 + Math.exp(-x)),
  linear: (x) => x,
  none: () => 0,
};

const SLOPES: Record<string, (x: number) => number> = {
  silu: (x) => {
    const s = 1 / (1 + Math.exp(-x));
    return s * (1 + x * (1 - s));
  },
  linear: () => 1,
  none: () => 0,
};

export class Network {
  readonly layers: Layer[];
  readonly degree: number;
  private readonly base: (x: number) => number;
  private readonly baseSlope: (x: number) => number;
  private readonly mapX: Float64Array | null;
  private readonly mapZ: Float64Array | null;
  private edited: Edited[] = [];
  private readonly b: Float64Array;
  private readonly lower: Float64Array;

  constructor(readonly data: Payload) {
    this.degree = data.degree;
    this.base = BASES[data.base];
    this.baseSlope = SLOPES[data.base];
    this.b = new Float64Array(this.degree + 1);
    this.lower = new Float64Array(this.degree + 1);
    this.mapX = data.map.kind === "quantile" ? numbers(data.map.x) : null;
    this.mapZ = data.map.kind === "quantile" ? numbers(data.map.z) : null;
    this.layers = data.layers.map((raw) => ({
      inputs: raw.inputs,
      sums: raw.sums,
      outputs: raw.sums - raw.products,
      products: raw.products,
      grid: raw.coef.shape[1] - this.degree,
      knots: numbers(raw.knots),
      coef: numbers(raw.coef),
      base: raw.base && numbers(raw.base),
      bias: raw.bias ? numbers(raw.bias) : new Float64Array(raw.sums),
      mask: numbers(raw.mask),
      mean: numbers(raw.mean),
      std: numbers(raw.std),
      share: numbers(raw.share),
      range: raw.range,
    }));
    this.edit(new Map());
  }

  /** Exchange edges, named `layer-input-sum`: a removed one leaves its mean behind. */
  edit(edits: ReadonlyMap<string, Edit>): void {
    this.edited = this.layers.map((layer, l) => {
      const edges = layer.inputs * layer.sums;
      const kept = Uint8Array.from(layer.mask);
      const bias = Float64Array.from(layer.bias);
      const replaced: Replaced[] = [];
      for (let e = 0; e < edges; e++) {
        if (!layer.mask[e]) continue;
        const [input, sum] = [Math.floor(e / layer.sums), e % layer.sums];
        const change = edits.get(`${l}-${input}-${sum}`);
        if (!change) continue;
        kept[e] = 0;
        if (change.kind === "remove") bias[sum] += layer.mean[e];
        else replaced.push({ input, sum, f: compiled(change.candidate.body) });
      }
      const rows = layer.grid + this.degree;
      const coef = new Float64Array(layer.coef.length);
      const base = layer.base && new Float64Array(edges);
      const used = new Uint8Array(layer.inputs);
      for (let i = 0; i < layer.inputs; i++) {
        for (let s = 0; s < layer.sums; s++) {
          const e = i * layer.sums + s;
          if (!kept[e]) continue;
          used[i] = 1;
          if (base) base[e] = layer.base![e];
          for (let m = 0; m < rows; m++) {
            const place = (i * rows + m) * layer.sums + s;
            coef[place] = layer.coef[place];
          }
        }
      }
      return { coef, base, bias, used, replaced };
    });
  }

  /** Return the network coordinates of an input's raw value. */
  coordinate(i: number, raw: number): number {
    const map = this.data.map;
    if (map.kind === "standard") return (raw - map.mean[i]) / map.scale[i];
    if (map.kind === "none") return raw;
    if (Number.isNaN(raw)) return raw;
    const n = map.x.shape[1];
    const x = this.mapX!;
    const z = this.mapZ!;
    let [low, high] = [i * n, (i + 1) * n];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (x[middle] < raw) low = middle + 1;
      else high = middle;
    }
    const right = Math.min(Math.max(low - i * n, 1), n - 1) + i * n;
    const share = Math.min(1, Math.max(0, (raw - x[right - 1]) / (x[right] - x[right - 1])));
    return z[right - 1] + share * (z[right] - z[right - 1]);
  }

  /** Write the degree + 1 B-splines that count at x into `b`; return the first one's number. Straight outside. */
  private basis(layer: Layer, i: number, x: number): number {
    const { knots, grid } = layer;
    const k = this.degree;
    const t = i * (grid + 2 * k + 1);
    const [low, high] = [knots[t + k], knots[t + k + grid]];
    const inside = x < low ? low : x > high ? high : x;
    let m = grid - 1;
    while (m > 0 && !(knots[t + k + m] <= inside && knots[t + k + m] < high)) m--;
    const b = this.b;
    this.values(knots, t + k + m, inside, k, b);
    if (x !== inside && k > 0) {
      const lower = this.lower;
      this.values(knots, t + k + m, inside, k - 1, lower);
      const distance = x - inside;
      for (let r = 0; r <= k; r++) {
        const from = t + m + r;
        const rise = r > 0 ? ratio(lower[r - 1], knots[from + k] - knots[from]) : 0;
        const fall = r < k ? ratio(lower[r], knots[from + k + 1] - knots[from + 1]) : 0;
        b[r] += k * (rise - fall) * distance;
      }
    }
    if (Number.isNaN(x)) b.fill(NaN);
    return m;
  }

  /** Write the derivatives of the B-splines at x into `b`; return the first one's number. */
  private slopes(layer: Layer, i: number, x: number): number {
    const { knots, grid } = layer;
    const k = this.degree;
    const t = i * (grid + 2 * k + 1);
    const [low, high] = [knots[t + k], knots[t + k + grid]];
    const inside = x < low ? low : x > high ? high : x;
    let m = grid - 1;
    while (m > 0 && !(knots[t + k + m] <= inside && knots[t + k + m] < high)) m--;
    if (k === 0) {
      this.b.fill(0);
      return m;
    }
    this.values(knots, t + k + m, inside, k - 1, this.lower);
    for (let r = 0; r <= k; r++) {
      const from = t + m + r;
      const rise = r > 0 ? ratio(this.lower[r - 1], knots[from + k] - knots[from]) : 0;
      const fall = r < k ? ratio(this.lower[r], knots[from + k + 1] - knots[from + 1]) : 0;
      this.b[r] = k * (rise - fall);
    }
    return m;
  }

  /** The recursion of Cox and de Boor on the interval that starts at `knots[place]`. */
  private values(knots: Float64Array, place: number, x: number, degree: number, into: Float64Array): void {
    into[0] = 1;
    for (let s = 1; s <= degree; s++) {
      let carried = 0;
      for (let r = 0; r < s; r++) {
        const [upper, under] = [knots[place + r + 1], knots[place + r + 1 - s]];
        const share = ratio(into[r], upper - under);
        into[r] = carried + (upper - x) * share;
        carried = (x - under) * share;
      }
      into[s] = carried;
    }
  }

  /** Return the function of one edge as it was trained; x is raw in the first layer. */
  edge(l: number, i: number, s: number, x: number): number {
    const layer = this.layers[l];
    const z = l === 0 ? this.coordinate(i, x) : x;
    const first = this.basis(layer, i, z);
    const rows = layer.grid + this.degree;
    let y = layer.base ? layer.base[i * layer.sums + s] * this.base(z) : 0;
    for (let r = 0; r <= this.degree; r++) y += this.b[r] * layer.coef[(i * rows + first + r) * layer.sums + s];
    return y;
  }

  /** Evaluate one event, `raw` from a place on; the values stay in `pass`. */
  forward(raw: Float64Array, from: number, pass: Pass): void {
    const k = this.degree;
    for (let i = 0; i < this.layers[0].inputs; i++) pass.nodes[0][i] = this.coordinate(i, raw[from + i]);
    this.layers.forEach((layer, l) => {
      const { coef, base, bias, used, replaced } = this.edited[l];
      const { sums, inputs } = layer;
      const rows = layer.grid + k;
      const values = pass.nodes[l];
      const into = pass.sums[l];
      into.set(bias);
      for (let i = 0; i < inputs; i++) {
        if (!used[i]) continue;
        const x = values[i];
        const first = this.basis(layer, i, x);
        if (base) {
          const y = this.base(x);
          const row = i * sums;
          for (let s = 0; s < sums; s++) into[s] += y * base[row + s];
        }
        for (let r = 0; r <= k; r++) {
          const y = this.b[r];
          const row = (i * rows + first + r) * sums;
          for (let s = 0; s < sums; s++) into[s] += y * coef[row + s];
        }
      }
      for (const one of replaced) into[one.sum] += one.f(l === 0 ? raw[from + one.input] : values[one.input]);
      const next = pass.nodes[l + 1];
      const alone = layer.outputs - layer.products;
      for (let o = 0; o < alone; o++) next[o] = into[o];
      for (let p = 0; p < layer.products; p++) next[alone + p] = into[alone + 2 * p] * into[alone + 2 * p + 1];
    });
  }

  /** Return room for the values of an event. */
  pass(): Pass {
    return {
      nodes: [new Float64Array(this.layers[0].inputs), ...this.layers.map((layer) => new Float64Array(layer.outputs))],
      sums: this.layers.map((layer) => new Float64Array(layer.sums)),
    };
  }

  /**
   * Return what every edge adds to an output of an event, to first order: its function less its mean, times the slope
   * of the output.
   */
  contributions(raw: Float64Array, pass: Pass, output: number, edits: ReadonlyMap<string, Edit>): Float64Array[] {
    const found: Float64Array[] = [];
    let slope = new Float64Array(this.layers.at(-1)!.outputs);
    slope[output] = this.data.output_map ? this.data.output_map.scale[output] : 1;
    for (let l = this.layers.length - 1; l >= 0; l--) {
      const layer = this.layers[l];
      const bySum = this.sumSlopes(layer, slope, pass.sums[l]);
      const here = new Float64Array(layer.inputs * layer.sums);
      slope = new Float64Array(layer.inputs);
      for (let i = 0; i < layer.inputs; i++) {
        const x = l === 0 ? raw[i] : pass.nodes[l][i];
        for (let s = 0; s < layer.sums; s++) {
          const e = i * layer.sums + s;
          const change = edits.get(`${l}-${i}-${s}`);
          if (!layer.mask[e] || change?.kind === "remove") continue;
          const f = change ? compiled(change.candidate.body) : (u: number) => this.edge(l, i, s, u);
          here[e] = (f(x) - layer.mean[e]) * bySum[s];
          if (l === 0) continue;
          slope[i] += bySum[s] * (change ? difference(f, x, layer.range[i]) : this.edgeSlope(layer, i, s, x));
        }
      }
      found.unshift(here);
    }
    return found;
  }

  private edgeSlope(layer: Layer, i: number, s: number, x: number): number {
    const first = this.slopes(layer, i, x);
    const rows = layer.grid + this.degree;
    let y = layer.base ? layer.base[i * layer.sums + s] * this.baseSlope(x) : 0;
    for (let r = 0; r <= this.degree; r++) y += this.b[r] * layer.coef[(i * rows + first + r) * layer.sums + s];
    return y;
  }

  private sumSlopes(layer: Layer, slope: Float64Array, sums: Float64Array): Float64Array {
    const alone = layer.outputs - layer.products;
    const found = new Float64Array(layer.sums);
    for (let o = 0; o < alone; o++) found[o] = slope[o];
    for (let p = 0; p < layer.products; p++) {
      const first = alone + 2 * p;
      found[first] = slope[alone + p] * sums[first + 1];
      found[first + 1] = slope[alone + p] * sums[first];
    }
    return found;
  }

  /** Return the prediction from the network's outputs: a probability, several, or targets. */
  prediction(y: Float64Array, met: number): Float64Array {
    if (this.data.head) return this.headed(y, met);
    const { mean, scale } = this.data.output_map!;
    const values = y.map((one, o) => mean[o] + scale[o] * one);
    if (this.data.kind === "binary") return values.map((one) => (one >= 0 ? 1 / (1 + Math.exp(-one)) : Math.exp(one) / (1 + Math.exp(one))));
    if (this.data.kind === "regression") return values;
    const largest = Math.max(...values);
    const powers = values.map((one) => Math.exp(one - largest));
    const total = powers.reduce((sum, one) => sum + one, 0);
    return powers.map((one) => one / total);
  }

  /** The head of two invisible particles: momenta of the outputs, energies from mass shells, see hepkan.nn.heads. */
  private headed(y: Float64Array, met: number): Float64Array {
    const head = this.data.head!;
    const p = head.mean.map((mean, o) => mean + head.scale[o] * y[o]);
    const free = head.name === "mass_shells";
    const phi = free ? [p[3], p[4], p[5]] : [met - p[0], -p[1], p[3]];
    const last = y[head.mean.length];
    const mass = head.mass ?? (head.mass_scale / Math.LN2) * (Math.max(last, 0) + Math.log1p(Math.exp(-Math.abs(last))));
    return Float64Array.from([p[0], p[1], p[2], Math.hypot(p[0], p[1], p[2]), ...phi, Math.hypot(...phi, mass)]);
  }
}

function ratio(a: number, width: number): number {
  return width > 0 ? a / width : 0;
}

function difference(f: (x: number) => number, x: number, range: [number, number]): number {
  const h = 1e-5 * (range[1] - range[0]);
  return (f(x + h) - f(x - h)) / (2 * h);
}
