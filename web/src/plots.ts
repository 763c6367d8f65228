// Small plots: densities, splines with their bands and candidates.
import { scaleLinear } from "d3-scale";
import { area, curveStepAfter, line } from "d3-shape";
import { digits, s } from "./dom";
import { compiled } from "./functions";
import { numbers, type Candidate } from "./payload";
import type { Edge, Store } from "./store";

const POINTS = 121;
const BINS = 48;

export interface Density {
  low: number;
  high: number;
  /** One row of bins for each group, 1 at the highest bin of all. */
  groups: number[][];
}

/** Return the density of values, signal and background apart where there are two classes. */
export function density(store: Store, values: (n: number) => number, low: number, high: number, bins = BINS): Density {
  const groups = store.data.kind === "binary" ? 2 : 1;
  const found = Array.from({ length: groups }, () => new Array<number>(bins).fill(0));
  const width = (high - low) / bins || 1;
  for (let n = 0; n < store.data.sample.n; n++) {
    const bin = Math.floor((values(n) - low) / width);
    if (bin >= 0 && bin < bins) found[groups === 2 ? store.target[n] : 0][bin] += store.balanced[n];
  }
  const top = Math.max(...found.flat()) || 1;
  return { low, high, groups: found.map((row) => row.map((one) => one / top)) };
}

/** Return a density as an SVG path, closed at the base line. */
export function densityPath(row: number[], x: (bin: number) => number, y: (value: number) => number): string {
  const steps = [...row, 0];
  return area<number>().x((_, i) => x(i)).y0(y(0)).y1((one) => y(one)).curve(curveStepAfter)(steps) ?? "";
}

/** Return the values that an edge sees in the embedded events, by event. */
export function seen(store: Store, edge: Edge): Float64Array {
  const n = store.data.sample.n;
  const found = new Float64Array(n);
  const pass = store.network.pass();
  for (let event = 0; event < n; event++) {
    if (edge.layer === 0) found[event] = store.x[event * store.features + edge.input];
    else {
      store.network.forward(store.x, event * store.features, pass);
      found[event] = pass.nodes[edge.layer][edge.input];
    }
  }
  return found;
}

/** Return the function of an edge now: its spline, the function in its place, or nothing. */
export function functionOf(store: Store, edge: Edge): ((x: number) => number) | null {
  const change = store.edits.get(edge.key);
  if (change?.kind === "remove") return null;
  if (change) return compiled(change.candidate.body);
  return (x) => store.network.edge(edge.layer, edge.input, edge.sum, x);
}

export function sampled(f: (x: number) => number, low: number, high: number, points = POINTS): [number, number][] {
  return Array.from({ length: points }, (_, i) => {
    const x = low + ((high - low) * i) / (points - 1);
    return [x, f(x)];
  });
}

const finite = () => line<[number, number]>().defined((one) => Number.isFinite(one[1]));

/** Draw an edge: spline, density of what it sees, band, candidates, and where the event is. */
export function edgePlot(store: Store, edge: Edge, values: Float64Array, chosen: Candidate | null): SVGSVGElement {
  const [width, height] = [340, 216];
  const [left, right, top, bottom] = [44, 10, 10, 28];
  const layer = store.network.layers[edge.layer];
  const [low, high] = layer.range[edge.input];
  const mean = layer.mean[edge.place];
  const spline = (x: number) => store.network.edge(edge.layer, edge.input, edge.sum, x) - mean;
  const points = sampled(spline, low, high);
  const encoded = store.data.explained[edge.key]?.band;
  const band = encoded ? numbers(encoded) : null;
  const extent = points.map((one) => one[1]);
  const [lowest, highest] = [Math.min(...extent), Math.max(...extent)];
  const widest = Math.min(0.3 * (highest - lowest), band ? Math.max(...band) : 0);
  const [least, most] = [lowest - widest, highest + widest];
  const room = 0.12 * (most - least || 1);
  const x = scaleLinear([low, high], [left, width - right]);
  const y = scaleLinear([least - room, most + room], [height - bottom, top]);
  const svg = s("svg", { viewBox: `0 0 ${width} ${height}`, class: "edge-plot", role: "img", "aria-label": "Function of the edge with the density of the data" });
  const clip = s("clipPath", { id: "edge-clip" }, s("rect", { x: left, y: top, width: width - left - right, height: height - top - bottom }));
  svg.append(s("defs", {}, clip));
  for (const tick of y.ticks(4)) {
    svg.append(s("line", { x1: left, x2: width - right, y1: y(tick), y2: y(tick), class: tick === 0 ? "zero" : "grid" }));
    svg.append(s("text", { x: left - 6, y: y(tick) + 3.5, "text-anchor": "end" }, digits(tick)));
  }
  for (const tick of x.ticks(5)) svg.append(s("text", { x: x(tick), y: height - bottom + 16, "text-anchor": "middle" }, digits(tick)));
  const plot = s("g", { "clip-path": "url(#edge-clip)" });
  const found = density(store, (n) => values[n], low, high);
  const base = height - bottom;
  found.groups.forEach((row, g) => {
    const path = densityPath(row, (bin) => x(low + ((high - low) * bin) / BINS), (one) => base - one * 0.42 * (base - top));
    plot.append(s("path", { d: path, class: `density group-${found.groups.length === 2 ? g : 1}` }));
  });
  if (band) {
    const rim = band.length;
    const places = Array.from(band.keys(), (i) => low + ((high - low) * i) / (rim - 1));
    const shape = area<number>().x((_, i) => x(places[i])).y0((one, i) => y(spline(places[i]) - one)).y1((one, i) => y(spline(places[i]) + one));
    plot.append(s("path", { d: shape(Array.from(band)) ?? "", class: "band" }));
  }
  const draw = (f: (u: number) => number, name: string) => {
    const these = sampled(f, low, high);
    plot.append(s("path", { d: finite().x((one) => x(one[0])).y((one) => y(one[1]))(these) ?? "", class: name }));
  };
  draw(spline, "spline");
  for (const one of store.candidates(edge)) {
    const f = compiled(one.body);
    if (one !== chosen) draw((u) => f(u) - mean, "candidate");
  }
  if (chosen) {
    const f = compiled(chosen.body);
    draw((u) => f(u) - mean, "candidate chosen");
  }
  plot.append(s("line", { class: "event-line", y1: top, y2: base }), s("circle", { class: "event-dot", r: 4.5 }));
  svg.append(s("line", { x1: left, x2: width - right, y1: base, y2: base, class: "axis" }), plot);
  moveDot(svg, store, edge, x, y);
  svg.addEventListener("explorer-event", () => moveDot(svg, store, edge, x, y));
  return svg;
}

function moveDot(svg: SVGSVGElement, store: Store, edge: Edge, x: (v: number) => number, y: (v: number) => number): void {
  const value = edge.layer === 0 ? store.raw[edge.input] : store.pass.nodes[edge.layer][edge.input];
  const f = functionOf(store, edge);
  const mean = store.network.layers[edge.layer].mean[edge.place];
  const place = { cx: x(value), cy: y(f ? f(value) - mean : 0) };
  const [dot, rule] = [svg.querySelector(".event-dot")!, svg.querySelector(".event-line")!];
  dot.setAttribute("cx", String(place.cx));
  dot.setAttribute("cy", String(place.cy));
  rule.setAttribute("x1", String(place.cx));
  rule.setAttribute("x2", String(place.cx));
}
