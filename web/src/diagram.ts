// The network as a living diagram. Edges are SVG paths in small networks and strokes on a canvas in large ones; nodes,
// small plots of functions, the selection and the flow of an event are SVG in both.
import { h, plain, s, set } from "./dom";
import { functionOf, sampled } from "./plots";
import type { Edge, Store } from "./store";

const SVG_EDGES = 600;
const FLOWS = 24;
const BOLD = 320; // strokes that are drawn anew for every frame

interface Line {
  edge: Edge;
  x0: number;
  y0: number;
  x1: number;
  y1: number;
  d: string;
  element?: SVGPathElement;
}

interface Look {
  width: number;
  alpha: number;
  colour: "up" | "down" | "symbol";
}

interface Inset {
  line: Line;
  x: number;
  y: number;
  side: number;
  dot: SVGCircleElement;
  place: (x: number) => [number, number];
}

const MIDDLE = [0.5, 0.4, 0.6, 0.3, 0.7, 0.22, 0.78, 0.15, 0.85];

export class Diagram {
  readonly element = h("div", { class: "diagram" });
  readonly onCanvas: boolean;
  /** Milliseconds of work for the latest frames. */
  readonly work: number[] = [];
  private readonly still = h("canvas", { "aria-hidden": "true" });
  private readonly moving = h("canvas", { "aria-hidden": "true" });
  private readonly flowing = s("svg", { class: "network flowing", "aria-hidden": "true" });
  private readonly svg = s("svg", { class: "network", "aria-hidden": "true" });
  private readonly pictures: SVGSVGElement[];
  private readonly edgeGroup = s("g", { class: "edges" });
  private readonly flowGroup = s("g", { class: "flows" });
  private readonly insetGroup = s("g", { class: "insets" });
  private readonly nodeGroup = s("g", { class: "nodes" });
  private readonly top = s("path", { class: "selected-edge" });
  private readonly labels = h("div", { class: "labels" });
  private readonly tip = h("div", { class: "tip", hidden: true });
  private lines: Line[] = [];
  private byKey = new Map<string, Line>();
  private insets: Inset[] = [];
  private nodes: SVGCircleElement[][] = [];
  private flows: SVGPathElement[] = [];
  private xs: number[] = [];
  private ys: number[][] = [];
  private order: number[][] = [];
  private width = 0;
  private height = 0;
  private scales: number[] = [];
  private readonly contrast: number[];
  private waiting = false;
  private dirty = true;
  private colours: Record<Look["colour"] | "faint", string> = { up: "", down: "", symbol: "", faint: "" };

  constructor(private readonly store: Store) {
    this.onCanvas = store.edges.length > SVG_EDGES;
    // Where a layer has many edges only the strongest are bold.
    this.contrast = store.network.layers.map((layer) => 0.8 + 0.6 * Math.max(0, Math.log10((layer.inputs * layer.sums) / 50)));
    // What runs all the time has a picture of its own, so that nothing else is painted again.
    const under = s("svg", { class: "network", "aria-hidden": "true" }, this.edgeGroup);
    this.element.append(this.still, this.moving, under, this.flowing, this.svg, this.labels, this.tip);
    this.flowing.append(this.flowGroup);
    this.svg.append(this.top, this.insetGroup, this.nodeGroup);
    this.pictures = [under, this.flowing, this.svg];
    set(this.element, {
      tabindex: 0,
      role: "group",
      "aria-roledescription": "network diagram",
      "aria-label": `Network with ${store.data.widths.join(", ")} nodes and ${store.edges.length} edges. Arrow keys go from edge to edge: up and down by importance, left and right from layer to layer.`,
    });
    this.order = this.sorted();
    this.listen();
    new ResizeObserver(() => this.layout()).observe(this.element);
    store.on((change) => {
      if (change === "edits") this.place();
      if (change === "edits" || change === "theme") this.dirty = true;
      if (change === "theme") this.readColours();
      this.ask();
    });
  }

  /** Draw before the next frame. */
  private ask(): void {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      const start = performance.now();
      this.draw();
      this.work.push(performance.now() - start);
      if (this.work.length > 200) this.work.shift();
    });
  }

  /** Inputs by importance from the top; hidden nodes near to where their edges come from, so that few cross. */
  private sorted(): number[][] {
    const { widths } = this.store.data;
    const totals = widths.map((n) => new Float64Array(n));
    const sums = widths.map((n) => new Float64Array(n));
    for (const edge of this.store.edges) if (edge.layer === 0) totals[0][edge.input] += edge.share;
    const found = [Array.from(totals[0].keys()).sort((a, b) => totals[0][b] - totals[0][a])];
    for (let l = 1; l < widths.length; l++) {
      const rank = new Float64Array(widths[l - 1]);
      found[l - 1].forEach((node, place) => (rank[node] = place / widths[l - 1]));
      for (const edge of this.store.edges) {
        if (edge.layer !== l - 1) continue;
        totals[l][edge.output] += edge.share;
        sums[l][edge.output] += edge.share * rank[edge.input];
      }
      const last = l === widths.length - 1;
      const at = (node: number) => (last ? node : sums[l][node] / (totals[l][node] || 1));
      found.push(Array.from(totals[l].keys()).sort((a, b) => at(a) - at(b)));
    }
    return found;
  }

  private layout(): void {
    const width = this.element.clientWidth;
    if (!width || width === this.width) return;
    this.width = width;
    const { widths } = this.store.data;
    const small = width < 560;
    const rows = Math.max(...widths);
    const inputs = widths[0];
    this.height = Math.round(Math.min(Math.max(small ? 320 : 560, inputs * (small ? 15 : 15.5), rows * 11), 820)) + 20;
    this.element.style.height = `${this.height}px`;
    const longest = Math.max(...this.store.data.outputs.map((text) => plain(text).length));
    const [left, right] = small ? [92, 24] : [126, Math.min(150, 26 + 7.4 * longest)];
    this.xs = widths.map((_, l) => left + ((width - left - right) * l) / (widths.length - 1));
    this.ys = widths.map((n, l) => {
      const ys = new Array<number>(n);
      const step = Math.min((this.height - 28) / n, small ? 60 : 96);
      this.order[l].forEach((node, place) => (ys[node] = this.height / 2 + (place - (n - 1) / 2) * step));
      return ys;
    });
    for (const picture of this.pictures) set(picture, { width, height: this.height, viewBox: `0 0 ${width} ${this.height}` });
    this.readColours();
    this.drawNodes(small);
    this.drawLabels();
    this.makeLines();
    this.place();
    this.dirty = true;
    this.ask();
  }

  private readColours(): void {
    const style = getComputedStyle(document.documentElement);
    for (const name of Object.keys(this.colours) as (keyof typeof this.colours)[]) {
      this.colours[name] = style.getPropertyValue(`--${name}`).trim();
    }
    this.dirty = true;
  }

  private makeLines(): void {
    this.edgeGroup.replaceChildren();
    this.lines = this.store.edges.map((edge) => {
      const layer = this.store.network.layers[edge.layer];
      const alone = layer.outputs - layer.products;
      const shift = edge.sum < alone ? 0 : 3.5 * (2 * ((edge.sum - alone) % 2) - 1);
      const [x0, x1] = [this.xs[edge.layer], this.xs[edge.layer + 1]];
      const [y0, y1] = [this.ys[edge.layer][edge.input], this.ys[edge.layer + 1][edge.output] + shift];
      const third = (x1 - x0) / 3;
      return { edge, x0, y0, x1, y1, d: `M${x0},${y0}C${x0 + third},${y0} ${x1 - third},${y1} ${x1},${y1}` };
    });
    this.byKey = new Map(this.lines.map((line) => [line.edge.key, line]));
    if (this.onCanvas) return;
    for (const line of [...this.lines].reverse()) {
      line.element = s("path", { d: line.d, "data-edge": line.edge.key });
      this.edgeGroup.append(line.element);
    }
  }

  private drawNodes(small: boolean): void {
    this.nodeGroup.replaceChildren();
    this.nodes = this.ys.map((ys, l) => {
      const products = l > 0 ? this.store.network.layers[l - 1].products : 0;
      return ys.map((y, n) => {
        const x = this.xs[l];
        const circle = s("circle", { cx: x, cy: y, r: l === this.ys.length - 1 ? 6 : small ? 3.4 : 4.2, class: "node" });
        this.nodeGroup.append(circle);
        if (n >= ys.length - products) this.nodeGroup.append(s("path", { class: "times", d: `M${x - 3},${y - 3}l6,6m0,-6l-6,6` }));
        return circle;
      });
    });
  }

  private drawLabels(): void {
    const { inputs, outputs } = this.store.data;
    this.labels.replaceChildren();
    inputs.forEach((one, i) => {
      const label = h("span", { class: "label input", "data-input": i, title: `${plain(one.label)}${one.unit ? ` [${one.unit}]` : ""}` });
      label.innerHTML = one.label;
      label.style.top = `${this.ys[0][i]}px`;
      label.style.width = `${this.xs[0] - 10}px`;
      this.labels.append(label);
    });
    if (this.width < 560) return;
    outputs.forEach((text, o) => {
      const label = h("span", { class: "label output" });
      label.innerHTML = text;
      label.style.top = `${this.ys.at(-1)![o]}px`;
      label.style.left = `${this.xs.at(-1)! + 11}px`;
      this.labels.append(label);
    });
  }

  /** Find room for small plots of the functions that count most. */
  private place(): void {
    if (!this.width) return;
    const small = this.width < 560;
    const room = 0.62 * ((this.height - 28) / Math.max(...this.store.data.widths));
    const [side, most] = small ? [22, 12] : [Math.min(58, Math.max(30, room)), 30];
    const gap = (this.xs[1] - this.xs[0]) / side;
    this.insetGroup.replaceChildren();
    this.insets = [];
    if (gap < 1.6) return;
    const taken: [number, number][] = [];
    for (const line of this.lines) {
      if (this.insets.length >= most || line.edge.strength < 0.02) break;
      if (this.store.edits.get(line.edge.key)?.kind === "remove") continue;
      const t = MIDDLE.find((one) => {
        const [x, y] = at(line, one);
        return taken.every((other) => Math.max(Math.abs(x - other[0]), Math.abs(y - other[1])) > 1.12 * side);
      });
      if (t === undefined) continue;
      const [x, y] = at(line, t);
      taken.push([x, y]);
      this.insets.push(this.inset(line, x, y, side));
    }
  }

  private inset(line: Line, x: number, y: number, side: number): Inset {
    const { edge } = line;
    const f = functionOf(this.store, edge)!;
    const [low, high] = this.store.network.layers[edge.layer].range[edge.input];
    const mean = this.store.network.layers[edge.layer].mean[edge.place];
    const points = sampled(f, low, high, 33).map(([u, v]) => [u, v - mean]);
    const span = Math.max(...points.map((one) => Math.abs(one[1]))) || 1;
    const place = (u: number): [number, number] => {
      const inside = Math.min(high, Math.max(low, u));
      const v = Math.max(-1, Math.min(1, (f(inside) - mean) / span));
      return [((inside - low) / (high - low) - 0.5) * 0.84 * side, -v * 0.38 * side];
    };
    const d = points.map(([u], i) => `${i ? "L" : "M"}${place(u).map((one) => one.toFixed(1))}`).join("");
    const symbol = this.store.edits.get(edge.key)?.kind === "replace";
    const dot = s("circle", { r: 2.6, class: "inset-dot" });
    const half = side / 2;
    this.insetGroup.append(
      s(
        "g",
        { transform: `translate(${x},${y})`, class: `inset ${symbol ? "symbol" : edge.rises ? "up" : "down"}`, "data-edge": edge.key },
        s("rect", { x: -half, y: -half, width: side, height: side, rx: 5 }),
        s("line", { x1: -0.42 * side, x2: 0.42 * side, y1: 0, y2: 0 }),
        s("path", { d }),
        dot,
      ),
    );
    return { line, x, y, side, dot, place };
  }

  private look(line: Line): Look | null {
    const { edge } = line;
    const change = this.store.edits.get(edge.key);
    if (change?.kind === "remove") return null;
    const symbol = change?.kind === "replace";
    if (this.store.mode === "importance") {
      const colour = symbol ? "symbol" : edge.rises ? "up" : "down";
      const size = edge.strength ** this.contrast[edge.layer];
      return { width: 0.4 + 5 * size, alpha: 0.05 + 0.75 * size ** 0.8, colour };
    }
    const contribution = this.store.contributions[edge.layer][edge.place];
    const size = Math.min(1, Math.abs(contribution) / this.scales[edge.layer]);
    return { width: 0.3 + 6 * size ** 0.9, alpha: 0.03 + 0.85 * size ** 0.7, colour: contribution >= 0 ? "up" : "down" };
  }

  private draw(): void {
    if (!this.width) return;
    if (this.store.mode === "event") {
      this.store.contributions.forEach((row, l) => {
        const largest = row.reduce((most, one) => Math.max(most, Math.abs(one)), 1e-12);
        this.scales[l] = Math.max(largest, 0.97 * (this.scales[l] ?? 0));
      });
    }
    if (this.onCanvas) this.paint();
    else this.restyle();
    this.drawSelection();
    this.drawFlow();
    this.drawValues();
  }

  private restyle(): void {
    for (const line of this.lines) {
      const look = this.look(line);
      if (!look) set(line.element!, { class: "gone", style: "" });
      else set(line.element!, { class: look.colour, style: `stroke-width:${look.width.toFixed(2)};opacity:${look.alpha.toFixed(3)}` });
    }
  }

  /** All edges faintly, drawn once; above them those that count, drawn anew, with strokes of a look in one path. */
  private paint(): void {
    const ratio = Math.min(window.devicePixelRatio || 1, 2);
    if (this.dirty || this.still.width !== Math.round(this.width * ratio)) {
      this.dirty = false;
      const context = this.fresh(this.still, ratio);
      const all = new Path2D();
      for (const line of this.lines) if (this.look(line)) trace(all, line);
      context.strokeStyle = this.colours.faint;
      context.lineWidth = 0.4;
      context.stroke(all);
    }
    const context = this.fresh(this.moving, ratio);
    const batches = new Map<string, { look: Look; path: Path2D }>();
    const bold: [Look, Line][] = [];
    for (const line of this.lines) {
      const look = this.look(line);
      if (look && look.alpha > 0.1) bold.push([look, line]);
    }
    bold.sort((a, b) => b[0].alpha - a[0].alpha);
    for (const [look, line] of bold.slice(0, BOLD)) {
      const name = `${look.colour}${Math.round(look.width * 2.5)}`;
      let batch = batches.get(name);
      if (!batch) batches.set(name, (batch = { look, path: new Path2D() }));
      trace(batch.path, line);
    }
    context.lineCap = "round";
    for (const { look, path } of [...batches.values()].sort((a, b) => a.look.width - b.look.width)) {
      context.globalAlpha = look.alpha;
      context.strokeStyle = this.colours[look.colour];
      context.lineWidth = look.width;
      context.stroke(path);
    }
  }

  private fresh(canvas: HTMLCanvasElement, ratio: number): CanvasRenderingContext2D {
    const [width, height] = [Math.round(this.width * ratio), Math.round(this.height * ratio)];
    if (canvas.width !== width || canvas.height !== height) {
      canvas.width = width;
      canvas.height = height;
      canvas.style.width = `${this.width}px`;
      canvas.style.height = `${this.height}px`;
    }
    const context = canvas.getContext("2d")!;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.globalAlpha = 1;
    context.clearRect(0, 0, this.width, this.height);
    return context;
  }

  private drawSelection(): void {
    const line = this.store.selected && this.byKey.get(this.store.selected.key);
    set(this.top, { d: line ? line.d : "" });
    for (const group of this.insetGroup.children) {
      group.classList.toggle("selected", group.getAttribute("data-edge") === this.store.selected?.key);
    }
  }

  /** Dashes that run along the edges that move the output most. */
  private drawFlow(): void {
    if (this.store.mode === "importance") {
      if (this.flows.length) this.flowGroup.replaceChildren();
      this.flows = [];
      return;
    }
    const ranked: [number, Line, number][] = [];
    for (const line of this.lines) {
      const value = this.store.contributions[line.edge.layer][line.edge.place];
      const size = Math.abs(value) / this.scales[line.edge.layer];
      if (size > 0.08) ranked.push([size, line, value]);
    }
    ranked.sort((a, b) => b[0] - a[0]);
    while (this.flows.length < Math.min(FLOWS, ranked.length)) {
      const path = s("path");
      this.flows.push(path);
      this.flowGroup.append(path);
    }
    while (this.flows.length > Math.min(FLOWS, ranked.length)) this.flows.pop()!.remove();
    this.flows.forEach((path, i) => {
      const [size, line, value] = ranked[i];
      set(path, { d: line.d, class: value >= 0 ? "up" : "down", style: `stroke-width:${(1 + 2.4 * size).toFixed(2)}` });
    });
  }

  /** Dots in the small plots and colours of nodes: where the event is. */
  private drawValues(): void {
    const event = this.store.mode === "event";
    for (const { line, dot, place } of this.insets) {
      const { layer, input } = line.edge;
      const [x, y] = place(layer === 0 ? this.store.raw[input] : this.store.pass.nodes[layer][input]);
      set(dot, { cx: x.toFixed(2), cy: y.toFixed(2), visibility: event ? "visible" : "hidden" });
    }
    this.nodes.forEach((column, l) => {
      const found = new Float64Array(column.length);
      if (event) {
        for (const { edge } of this.lines) {
          const value = this.store.contributions[edge.layer][edge.place];
          if (l === 0 && edge.layer === 0) found[edge.input] += value;
          else if (edge.layer === l - 1) found[edge.output] += value;
        }
      }
      const largest = found.reduce((most, one) => Math.max(most, Math.abs(one)), 1e-12);
      column.forEach((circle, n) => {
        const share = Math.abs(found[n]) / largest;
        const name = `node ${event && share > 0.05 ? (found[n] > 0 ? "up" : "down") : ""}`;
        if (circle.getAttribute("class") !== name) circle.setAttribute("class", name);
      });
    });
  }

  /** Return the edge near a place, the important ones before others. */
  private near(x: number, y: number, reach: number): Edge | null {
    for (const { line, x: cx, y: cy, side } of this.insets) if (Math.max(Math.abs(x - cx), Math.abs(y - cy)) < side / 2) return line.edge;
    let found: [number, Edge | null] = [reach, null];
    for (const line of this.lines) {
      if (x < line.x0 - 2 || x > line.x1 + 2 || this.store.edits.get(line.edge.key)?.kind === "remove") continue;
      const t = Math.min(1, Math.max(0, (x - line.x0) / (line.x1 - line.x0)));
      const distance = Math.abs(at(line, t)[1] - y) - 5 * line.edge.strength;
      if (distance < found[0]) found = [distance, line.edge];
    }
    return found[1];
  }

  private listen(): void {
    let pinned = false;
    const where = (event: PointerEvent): [number, number] => {
      const box = this.element.getBoundingClientRect();
      return [event.clientX - box.left, event.clientY - box.top];
    };
    this.element.addEventListener("pointermove", (event) => {
      if (event.pointerType === "touch") return;
      const edge = this.near(...where(event), 7);
      this.element.style.cursor = edge ? "pointer" : "";
      if (edge && !pinned) this.store.select(edge);
      this.hint(edge, ...where(event));
    });
    this.element.addEventListener("pointerleave", () => this.hint(null, 0, 0));
    this.element.addEventListener("click", (event) => {
      const edge = this.near(...where(event as PointerEvent), 14);
      pinned = edge !== null && !(pinned && edge === this.store.selected);
      if (edge) this.store.select(edge);
    });
    this.element.addEventListener("keydown", (event) => {
      if (!["ArrowUp", "ArrowDown", "ArrowLeft", "ArrowRight"].includes(event.key)) return;
      event.preventDefault();
      pinned = true;
      this.step(event.key);
    });
  }

  private step(key: string): void {
    const here = this.store.selected;
    const alive = this.store.edges.filter((edge) => this.store.edits.get(edge.key)?.kind !== "remove" || edge === here);
    if (!here) return this.store.select(alive[0] ?? null);
    const layer = here.layer + (key === "ArrowRight" ? 1 : key === "ArrowLeft" ? -1 : 0);
    if (layer !== here.layer) return this.store.select(alive.find((edge) => edge.layer === layer) ?? here);
    const row = alive.filter((edge) => edge.layer === here.layer);
    const next = row.indexOf(here) + (key === "ArrowDown" ? 1 : -1);
    this.store.select(row[Math.min(row.length - 1, Math.max(0, next))]);
  }

  private hint(edge: Edge | null, x: number, y: number): void {
    this.tip.hidden = !edge;
    if (!edge) return;
    this.tip.innerHTML = `${edgeTitle(this.store, edge)}<small>${(100 * edge.share).toPrecision(2)} % of its layer</small>`;
    this.tip.style.transform = `translate(${Math.min(x + 14, this.width - 180)}px, ${Math.max(0, y - 44)}px)`;
  }
}

/** Return the ends of an edge as HTML. */
export function edgeTitle(store: Store, edge: Edge): string {
  return `${nodeName(store, edge.layer, edge.input)} → ${nodeName(store, edge.layer + 1, edge.output)}`;
}

/** Return the name of a node as HTML: an input, a hidden node by its number, an output. */
export function nodeName(store: Store, layer: number, node: number): string {
  const { inputs, outputs, widths } = store.data;
  if (layer === 0) return inputs[node].label;
  if (layer === widths.length - 1) return outputs[node];
  const prime = widths.length > 3 ? ["h", "g", "k", "l"][layer - 1] ?? `h${layer}` : "h";
  return `<i>${prime}</i><sub>${node + 1}</sub>`;
}

function at(line: Line, t: number): [number, number] {
  return [line.x0 + (line.x1 - line.x0) * t, line.y0 + (line.y1 - line.y0) * (3 - 2 * t) * t * t];
}

function trace(path: Path2D, line: Line): void {
  const third = (line.x1 - line.x0) / 3;
  path.moveTo(line.x0, line.y0);
  path.bezierCurveTo(line.x0 + third, line.y0, line.x1 - third, line.y1, line.x1, line.y1);
}

