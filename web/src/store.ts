// What the reader has chosen, and what follows from it: the edited network, the event, the measure on all events.
import { accuracy, auc, mae } from "./metrics";
import { Network, type Edit, type Pass } from "./network";
import { numbers, type Candidate, type Payload } from "./payload";

export interface EdgeName {
  layer: number;
  input: number;
  sum: number;
}

export interface Edge extends EdgeName {
  key: string;
  /** Place in the arrays of its layer. */
  place: number;
  /** Node at its right end. */
  output: number;
  /** Share in the variation of the outputs; those of a layer add up to 1. */
  share: number;
  /** Share relative to the largest of its layer. */
  strength: number;
  rises: boolean;
}

export interface Measure {
  value: number;
  undefined: number;
  scores: Float64Array;
}

export type Change = "event" | "edits" | "measure" | "selected" | "mode" | "output" | "theme";
type Listener = (change: Change) => void;

const SLICE = 7; // milliseconds of work between two frames
const LARGE = 600; // edges from which on work waits for a pause in the dragging

export class Store {
  readonly network: Network;
  readonly edges: Edge[];
  readonly byKey: Map<string, Edge>;
  readonly features: number;
  readonly x: Float64Array;
  readonly target: Float64Array;
  readonly weight: Float64Array;
  readonly process: Float64Array;
  readonly met: Float64Array | null;
  readonly balanced: Float64Array;
  readonly columns: number;
  /** The raw values of the event that is shown. */
  readonly raw: Float64Array;
  readonly pass: Pass;
  prediction: Float64Array = new Float64Array(0);
  contributions: Float64Array[] = [];
  eventNumber = 0;
  moved = false;
  output = 0;
  mode: "importance" | "event" = "importance";
  selected: Edge | null = null;
  threshold = 0;
  readonly manual = new Map<string, Edit>();
  edits: Map<string, Edit> = new Map();
  measure: Measure | null = null;
  busy = false;
  /** Milliseconds without changes after which slow work begins. */
  readonly pause: number;
  private met_ = 0;
  private listeners: Listener[] = [];
  private job = 0;

  constructor(readonly data: Payload) {
    this.network = new Network(data);
    this.edges = this.collect();
    this.pause = this.edges.length > LARGE ? 90 : 0;
    this.byKey = new Map(this.edges.map((edge) => [edge.key, edge]));
    this.features = data.inputs.length;
    this.x = numbers(data.sample.x);
    this.target = numbers(data.sample.target);
    this.weight = numbers(data.sample.weight);
    this.process = numbers(data.sample.process);
    this.met = data.sample.met && numbers(data.sample.met);
    this.columns = this.target.length / data.sample.n;
    this.balanced = this.balance();
    this.raw = new Float64Array(this.features);
    this.pass = this.network.pass();
    this.choose(0);
  }

  on(listener: Listener): void {
    this.listeners.push(listener);
  }

  private tell(change: Change): void {
    for (const listener of this.listeners) listener(change);
  }

  private collect(): Edge[] {
    const found: Edge[] = [];
    this.network.layers.forEach((layer, l) => {
      const largest = Math.max(...layer.share) || 1;
      const alone = layer.outputs - layer.products;
      for (let input = 0; input < layer.inputs; input++) {
        const [low, high] = layer.range[input];
        for (let sum = 0; sum < layer.sums; sum++) {
          const place = input * layer.sums + sum;
          if (!layer.mask[place]) continue;
          const output = sum < alone ? sum : alone + Math.floor((sum - alone) / 2);
          const rises = this.network.edge(l, input, sum, high) >= this.network.edge(l, input, sum, low);
          const share = layer.share[place];
          found.push({ layer: l, input, sum, key: `${l}-${input}-${sum}`, place, output, share, strength: share / largest, rises });
        }
      }
    });
    return found.sort((a, b) => b.strength - a.strength);
  }

  /** Weights without sign, of equal total in both classes, for densities. */
  private balance(): Float64Array {
    const sizes = this.weight.map(Math.abs);
    if (this.data.kind !== "binary") return sizes;
    const totals = [0, 0];
    sizes.forEach((size, n) => (totals[this.target[n]] += size));
    return sizes.map((size, n) => size / (totals[this.target[n]] || 1));
  }

  /** The column of a prediction that belongs to the chosen output; behind a head outputs are momenta and a mass. */
  get column(): number {
    const { head } = this.data;
    if (!head) return this.output;
    return (head.name === "mass_shells" ? [0, 1, 2, 4, 5, 6, 7] : [0, 1, 2, 6, 7])[this.output];
  }

  /** Show an embedded event. */
  choose(n: number): void {
    this.eventNumber = n;
    this.moved = false;
    this.raw.set(this.x.subarray(n * this.features, (n + 1) * this.features));
    this.met_ = this.met ? this.met[n] : 0;
    this.follow();
  }

  /** Change a feature of the event that is shown. */
  drag(feature: number, value: number): void {
    this.raw[feature] = value;
    const met = this.data.inputs.findIndex((one) => one.name === "met_pt");
    if (feature === met) this.met_ = value;
    this.moved = true;
    this.mode = "event";
    this.follow();
  }

  private follow(): void {
    this.network.forward(this.raw, 0, this.pass);
    this.prediction = this.network.prediction(this.pass.nodes.at(-1)!, this.met_);
    this.contributions = this.network.contributions(this.raw, this.pass, this.output, this.edits);
    this.tell("event");
  }

  /** Tell all parts that the colours are others. */
  themed(): void {
    this.tell("theme");
  }

  select(edge: Edge | null): void {
    if (edge === this.selected) return;
    this.selected = edge;
    this.tell("selected");
  }

  setMode(mode: "importance" | "event"): void {
    this.mode = mode;
    this.tell("mode");
  }

  setOutput(output: number): void {
    this.output = output;
    this.follow();
    this.tell("output");
  }

  /** Take away the edges whose importance, relative to the largest of their layer, is below a threshold. */
  setThreshold(threshold: number): void {
    if (threshold === this.threshold) return;
    this.threshold = threshold;
    this.apply();
  }

  /** Remove an edge, put a function in its place, or make it the trained spline again. */
  setEdge(edge: Edge, edit: "spline" | "remove" | number): void {
    if (edit === "spline") this.manual.delete(edge.key);
    else if (edit === "remove") this.manual.set(edge.key, { kind: "remove" });
    else this.manual.set(edge.key, { kind: "replace", place: edit, candidate: this.candidates(edge)[edit] });
    this.apply();
  }

  /** Put the best candidate on every edge that it describes at least so well. */
  replaceAll(r2: number): number {
    let changed = 0;
    for (const edge of this.edges) {
      const place = this.candidates(edge).findIndex((one) => one.r2 >= r2);
      if (place < 0 || this.edits.has(edge.key)) continue;
      this.manual.set(edge.key, { kind: "replace", place, candidate: this.candidates(edge)[place] });
      changed++;
    }
    this.apply();
    return changed;
  }

  reset(): void {
    this.manual.clear();
    this.threshold = 0;
    this.apply();
  }

  candidates(edge: Edge): Candidate[] {
    return this.data.explained[edge.key]?.candidates ?? [];
  }

  private apply(): void {
    this.edits = new Map();
    for (const edge of this.edges) if (edge.strength < this.threshold) this.edits.set(edge.key, { kind: "remove" });
    for (const [key, edit] of this.manual) this.edits.set(key, edit);
    this.network.edit(this.edits);
    this.busy = true;
    this.tell("edits");
    this.follow();
    void this.evaluate();
  }

  /** Return the scores of the embedded events from `from` to `to` into an array. */
  private score(from: number, to: number, pass: Pass, scores: Float64Array): number {
    let bad = 0;
    const width = this.data.kind === "classes" ? this.data.widths.at(-1)! : this.columns;
    for (let n = from; n < to; n++) {
      this.network.forward(this.x, n * this.features, pass);
      const found = this.network.prediction(pass.nodes.at(-1)!, this.met ? this.met[n] : 0);
      for (let c = 0; c < width; c++) scores[n * width + c] = found[c];
      if (found.some((one) => !Number.isFinite(one))) bad++;
    }
    return bad;
  }

  /** Compute the measure of the edited network, a slice of events at a time so that the page stays fluid. */
  async evaluate(): Promise<void> {
    const job = ++this.job;
    const n = this.data.sample.n;
    const scores = new Float64Array(n * (this.data.kind === "classes" ? this.data.widths.at(-1)! : this.columns));
    const pass = this.network.pass();
    let [done, bad] = [0, 0];
    if (this.measure && this.pause) await new Promise((resolve) => setTimeout(resolve, this.pause));
    if (job !== this.job) return;
    while (done < n) {
      const start = performance.now();
      while (done < n && performance.now() - start < SLICE) {
        const end = Math.min(n, done + 20);
        bad += this.score(done, end, pass, scores);
        done = end;
      }
      await breath();
      if (job !== this.job) return;
    }
    this.measure = { value: bad ? NaN : this.measured(scores), undefined: bad, scores };
    this.busy = false;
    this.tell("measure");
  }

  private measured(scores: Float64Array): number {
    if (this.data.kind === "binary") return auc(this.target, scores, this.weight);
    if (this.data.kind === "classes") return accuracy(this.target, scores, this.weight);
    return mae(this.target, scores, this.weight, this.data.targets.map((one) => one.scale!));
  }

  /** Return how many edges and inputs are left, and how many edges are functions. */
  left(): { edges: number; inputs: number; replaced: number } {
    const inputs = new Set<number>();
    let [edges, replaced] = [0, 0];
    for (const edge of this.edges) {
      const change = this.edits.get(edge.key);
      if (change?.kind === "remove") continue;
      edges++;
      if (change) replaced++;
      if (edge.layer === 0) inputs.add(edge.input);
    }
    return { edges, replaced, inputs: inputs.size };
  }

  /** Return the edits as the file that `hepkan prune` and `hepkan symbolic` take. */
  script(): object {
    const edges = [...this.edits].map(([key, edit]) => {
      const edge = this.byKey.get(key)!;
      const name = { layer: edge.layer, input: edge.input, sum: edge.sum };
      if (edit.kind === "remove") return { ...name, remove: this.network.layers[edge.layer].mean[edge.place] };
      return { ...name, replace: edit.candidate.body };
    });
    return {
      format: 1,
      run: this.data.run,
      network: this.data.network,
      sha256: this.data.sha256,
      measure: { name: this.data.metric.name, before: this.data.metric.value, after: this.measure?.value ?? null },
      edges,
    };
  }
}

/** Let the browser draw before the work goes on. */
function breath(): Promise<void> {
  return new Promise((resolve) => {
    const channel = new MessageChannel();
    channel.port1.onmessage = () => resolve();
    channel.port2.postMessage(null);
  });
}
