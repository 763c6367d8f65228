// The cards beside and below the diagram: output, edge, pruning, formula.
import { scaleLinear } from "d3-scale";
import { edgeTitle, nodeName } from "./diagram";
import { digits, h, markup, plain, s, set, settled } from "./dom";
import { labelMath, mathml, mn } from "./functions";
import { density, densityPath, edgePlot, seen } from "./plots";
import type { Edge, Store } from "./store";

const BINS = 44;
const TERMS = 6;

/** What the network says about the event, among all embedded events. */
export class Output {
  readonly element = h("section", { class: "card output-card", "aria-labelledby": "output-title" });
  private readonly value = h("p", { class: "big", "aria-live": "off" });
  private readonly truth = h("p", { class: "soft" });
  private readonly figure = h("div", { class: "figure" });
  private readonly table = h("div", { class: "table" });
  private marker: SVGLineElement | null = null;
  private at: (x: number) => number = () => 0;

  constructor(private readonly store: Store) {
    this.element.append(h("h2", { id: "output-title" }, "The output"), this.value, this.truth, this.figure, this.table);
    store.on((change) => {
      if (change === "measure" || change === "output" || change === "theme") this.draw();
      if (change === "event" || change === "output") this.update();
    });
    this.update();
  }

  private draw(): void {
    const { store } = this;
    const scores = store.measure?.scores;
    if (!scores) return;
    const n = store.data.sample.n;
    const width = scores.length / n;
    const values = (event: number) => scores[event * width + this.store.column];
    let [low, high] = [0, 1];
    if (store.data.kind === "regression") {
      const sorted = Float64Array.from({ length: n }, (_, event) => values(event)).sort();
      [low, high] = [sorted[Math.floor(0.005 * n)], sorted[Math.ceil(0.995 * n) - 1]];
    }
    const found = density(store, values, low, high + 1e-9 * (high - low), BINS);
    const [w, tall, base] = [340, 116, 92];
    const x = scaleLinear([low, high], [8, w - 8]);
    this.at = (value) => x(Math.min(high, Math.max(low, value)));
    const svg = s("svg", { viewBox: `0 0 ${w} ${tall}`, role: "img", "aria-label": "Distribution of the output over the embedded events, with the place of this event" });
    found.groups.forEach((row, g) => {
      const path = densityPath(row, (bin) => x(low + ((high - low) * bin) / BINS), (one) => base - one * (base - 10));
      svg.append(s("path", { d: path, class: `density strong group-${found.groups.length === 2 ? g : 1}` }));
    });
    svg.append(s("line", { x1: 8, x2: w - 8, y1: base, y2: base, class: "axis" }));
    for (const tick of x.ticks(5)) svg.append(s("text", { x: x(tick), y: base + 17, "text-anchor": "middle" }, digits(tick)));
    this.marker = s("line", { class: "marker", y1: 4, y2: base });
    svg.append(this.marker);
    this.figure.replaceChildren(svg);
    if (store.data.kind === "binary") {
      const [background, signal] = store.data.classes.map((name) => name.replace(/_/g, " "));
      this.figure.append(h("p", { class: "legend" }, h("span", { class: "key group-1" }), signal, h("span", { class: "key group-0" }), background));
    }
    this.update();
  }

  private update(): void {
    const { store } = this;
    const { data, prediction, eventNumber } = store;
    const shown = prediction[store.column];
    const unit = data.kind === "regression" ? (data.targets[this.store.column]?.unit ?? "") : "";
    this.value.replaceChildren(h("strong", {}, digits(shown, data.kind === "regression" ? 4 : 3)), unit ? ` ${unit}` : "");
    if (this.marker) {
      const place = this.at(shown).toFixed(1);
      set(this.marker, { x1: place, x2: place });
    }
    if (data.kind === "binary") {
      const truth = data.classes[store.target[eventNumber]].replace(/_/g, " ");
      this.truth.textContent = `probability of ${data.classes[1].replace(/_/g, " ")}${store.moved ? "" : `; truth: ${truth}`}`;
      return;
    }
    const names = data.kind === "classes" ? data.classes : data.targets.map((one) => `${one.label}${one.unit ? ` <span class="unit">${one.unit}</span>` : ""}`);
    const rows = names.map((name, t) => {
      const truth = data.kind === "classes" ? (store.target[eventNumber] === t ? "✓" : "") : digits(store.target[eventNumber * store.columns + t], 4);
      return `<tr${t === this.store.column ? ' class="here"' : ""}><th scope="row">${name}</th><td>${digits(prediction[t], 4)}</td><td>${store.moved ? "" : truth}</td></tr>`;
    });
    this.truth.innerHTML = `predicted ${names[this.store.column]}`;
    this.table.innerHTML = `<table><thead><tr><th scope="col">target</th><th scope="col">predicted</th><th scope="col">true</th></tr></thead><tbody>${rows.join("")}</tbody></table>`;
  }
}

/** One edge: its function, what is known about it, and what may stand in its place. */
export class EdgeCard {
  readonly element = h("section", { class: "card edge-card", "aria-labelledby": "edge-title" });
  private readonly title = h("h2", { id: "edge-title" }, "An edge");
  private readonly said = h("p", { class: "visually-hidden", "aria-live": "polite" });
  private readonly body = h("div", {}, h("p", { class: "soft" }, "Point at an edge, tap it, or focus the diagram and use the arrow keys."));
  private plot: SVGSVGElement | null = null;
  private values: { key: string; seen: Float64Array } | null = null;

  constructor(private readonly store: Store) {
    this.element.append(this.title, this.said, this.body);
    const later = settled(() => this.draw(), store.pause);
    store.on((change) => {
      if (change === "selected" || change === "theme") this.draw();
      if (change === "edits") later();
      if (change === "event") this.plot?.dispatchEvent(new Event("explorer-event"));
    });
  }

  private draw(): void {
    const edge = this.store.selected;
    if (!edge) return;
    const { store } = this;
    this.title.innerHTML = edgeTitle(store, edge);
    if (this.values?.key !== edge.key) this.values = { key: edge.key, seen: seen(store, edge) };
    const change = store.edits.get(edge.key);
    const chosen = change?.kind === "replace" ? change.candidate : null;
    this.plot = edgePlot(store, edge, this.values.seen, chosen);
    const where = edge.layer === 0 ? store.data.inputs[edge.input] : null;
    const caption = where ? `${where.label}${where.unit ? ` [${where.unit}]` : ""}` : `value of ${nodeName(store, edge.layer, edge.input)}`;
    const parts = [`${digits(100 * edge.share, 2)} % of its layer`, edge.rises ? "rises" : "falls"];
    if (change?.kind === "remove") parts.push(store.manual.has(edge.key) ? "removed" : "below the threshold");
    const keys = store.data.explained[edge.key]?.band ? '<span class="key spline"></span>spline<span class="key band"></span>bootstrap error' : '<span class="key spline"></span>spline';
    this.body.replaceChildren(
      h("div", { class: "figure" }, this.plot, markup("p", caption, { class: "axis-name" })),
      markup("p", `${keys}<span class="key candidate"></span>candidates`, { class: "legend" }),
      h("p", { class: "soft" }, parts.join(", "), "."),
      this.choices(edge),
    );
    this.said.textContent = `Edge from ${plain(nodeName(store, edge.layer, edge.input))} to ${plain(nodeName(store, edge.layer + 1, edge.output))}, ${parts.join(", ")}`;
  }

  private choices(edge: Edge): HTMLElement {
    const { store } = this;
    const change = store.edits.get(edge.key);
    const state = !change ? "spline" : change.kind === "remove" ? "remove" : String(change.place);
    const group = h("div", { class: "choices", role: "radiogroup", "aria-label": "What this edge is" });
    const option = (value: "spline" | "remove" | number, content: string, note: string) => {
      const input = h("input", { type: "radio", name: "edge-choice", value, checked: state === String(value) });
      input.addEventListener("change", () => {
        store.setEdge(edge, value);
        this.draw();
        this.element.querySelector<HTMLInputElement>(`input[value="${value}"]`)?.focus();
      });
      group.append(h("label", {}, input, markup("span", content, { class: "choice", tabindex: 0 }), note ? h("span", { class: "note" }, note) : ""));
    };
    option("spline", "trained spline", "");
    const layer = edge.layer;
    const variable = labelMath(nodeName(store, layer, edge.input));
    store.candidates(edge).forEach((one, place) => {
      const formula = `<math>${mathml(one.body, one.body.outputs[0], () => variable)}</math>`;
      option(place, formula, `R² ${one.r2 >= 0.99995 ? "0.9999" : one.r2.toFixed(4)}`);
    });
    option("remove", "removed", `its mean ${digits(store.network.layers[layer].mean[edge.place], 2)} stays`);
    if (!store.data.explained[edge.key]) group.append(h("p", { class: "soft" }, "Not among the most important edges: no candidates on this page."));
    return group;
  }
}

/** The threshold, and the measure before and after. */
export class Toolbar {
  readonly element = h("div", { class: "toolbar" });
  private readonly slider = h("input", { type: "range", min: 0, max: 1000, step: 1, value: 0, id: "threshold", "aria-describedby": "left" });
  private readonly cut = h("output", { for: "threshold" });
  private readonly left = h("p", { id: "left", class: "soft" });
  private readonly measure = h("p", { class: "measure", "aria-live": "polite", role: "status" });
  private readonly strengths: number[];

  constructor(private readonly store: Store) {
    const modes = h("div", { class: "segments", role: "group", "aria-label": "What the lines show" });
    const buttons = ([["importance", "Importance"], ["event", "This event"]] as const).map(([mode, text]) => {
      const button = h("button", { type: "button", "aria-pressed": "false", "data-mode": mode }, text);
      button.addEventListener("click", () => store.setMode(mode));
      modes.append(button);
      return button;
    });
    const mark = () => buttons.forEach((button) => button.setAttribute("aria-pressed", String(button.dataset.mode === store.mode)));
    mark();
    this.strengths = store.edges.map((edge) => edge.strength).sort((a, b) => a - b);
    this.slider.addEventListener("input", () => store.setThreshold(this.threshold()));
    this.element.append(modes);
    if (store.data.outputs.length > 1) {
      const select = h("select", { "aria-label": "Output" });
      store.data.outputs.forEach((text, o) => select.append(h("option", { value: o }, plain(text))));
      select.addEventListener("change", () => store.setOutput(Number(select.value)));
      this.element.append(h("label", { class: "pick" }, "Output ", select));
    }
    this.element.append(
      h("div", { class: "prune" }, h("label", { for: "threshold" }, "Prune edges below ", this.cut), this.slider, this.left),
      this.measure,
    );
    store.on((change) => {
      if (change === "edits") this.update();
      if (change === "measure" || change === "edits") this.result();
      mark();
    });
    this.update();
  }

  /** The slider goes through the edges by rank, slowly where few are left. */
  private threshold(): number {
    const part = Number(this.slider.value) / 1000;
    if (part === 0) return 0;
    const kept = Math.round(this.strengths.length ** (1 - part));
    return this.strengths[Math.max(0, this.strengths.length - kept)];
  }

  private update(): void {
    const { store } = this;
    const { edges, inputs, replaced } = store.left();
    if (store.threshold === 0) this.slider.value = "0";
    this.cut.textContent = store.threshold === 0 ? "0" : `${digits(100 * store.threshold, 2)} % of the strongest of their layer`;
    const some = replaced ? `, ${replaced} of them a formula` : "";
    this.left.textContent = `${edges} of ${store.edges.length} edges and ${inputs} of ${store.features} inputs left${some}`;
  }

  private result(): void {
    const { store } = this;
    const { title, value, name } = store.data.metric;
    const now = store.measure;
    const text = (x: number) => (Number.isFinite(x) ? x.toFixed(name === "mae" ? 5 : 4) : "undefined");
    this.element.classList.toggle("busy", store.busy);
    if (!now) return void (this.measure.textContent = `${title} …`);
    if (now.undefined) return void (this.measure.textContent = `${title} undefined: a function has no value in ${now.undefined} events`);
    const difference = now.value - value;
    const worse = name === "mae" ? difference > 0 : difference < 0;
    const sign = difference >= 0 ? "+" : "−";
    const change = Math.abs(difference) < 5e-6 ? "" : ` <span class="${worse ? "worse" : "better"}">${sign}${Math.abs(difference).toFixed(name === "mae" ? 5 : 4)}</span>`;
    this.measure.innerHTML = `${title} <strong data-measure="${now.value}">${text(now.value)}</strong>${change}`;
  }
}

/** The network as equations as far as it is made of formulae, and the file of edits. */
export class FormulaCard {
  readonly element = h("section", { class: "card formula-card", "aria-labelledby": "formula-title" });
  private readonly equations = h("div", { class: "equations", tabindex: 0, role: "region", "aria-label": "Equations" });
  private readonly command = h("code", {});
  private readonly save = h("button", { type: "button", class: "primary", id: "save" }, "Save edits");

  constructor(private readonly store: Store) {
    const all = h("button", { type: "button", id: "replace-all" }, "Formulae wherever R² ≥ 0.99");
    const reset = h("button", { type: "button", class: "quiet", id: "reset" }, "Start again");
    all.addEventListener("click", () => store.replaceAll(0.99));
    reset.addEventListener("click", () => store.reset());
    this.save.addEventListener("click", () => this.download());
    this.element.append(
      h("h2", { id: "formula-title" }, "The formula"),
      this.equations,
      h("div", { class: "row" }, all, this.save, reset),
      h("p", { class: "soft" }, "Apply saved edits with ", this.command),
    );
    if (store.data.formula) this.element.append(this.found());
    const later = settled(() => this.draw(), store.pause);
    store.on((change) => {
      if (change === "edits") later();
    });
    this.draw();
  }

  /** The formula of `hepkan symbolic` for this run. */
  private found(): HTMLElement {
    const formula = this.store.data.formula!;
    const input = (column: number) => labelMath(formula.labels[column]);
    const rows = formula.outputs.map((root) => {
      const inner = mathml(formula, root, input);
      return `<p class="equation"><math displaystyle="true">${formula.link === "sigmoid" ? `<mi>σ</mi><mrow><mo>(</mo>${inner}<mo>)</mo></mrow>` : inner}</math></p>`;
    });
    const details = h("details", {}, h("summary", {}, "What hepkan symbolic has found"));
    details.append(markup("div", rows.join(""), { class: "equations", tabindex: 0, role: "region", "aria-label": "Formula of hepkan symbolic" }));
    return details;
  }

  private draw(): void {
    const { store } = this;
    const rows: string[] = [];
    const { widths } = store.data;
    store.network.layers.forEach((layer, l) => {
      for (let sum = 0; sum < layer.sums; sum++) {
        const edges = store.edges.filter((edge) => edge.layer === l && edge.sum === sum && store.edits.get(edge.key)?.kind !== "remove");
        const symbolic = edges.filter((edge) => store.edits.has(edge.key));
        if (!symbolic.length && (l < widths.length - 2 || edges.length > 40)) continue;
        rows.push(this.equation(l, sum, edges, symbolic));
      }
    });
    if (!rows.length) rows.push('<p class="soft">Put a function on an edge, and the equation of its node appears here.</p>');
    this.equations.innerHTML = rows.slice(0, 40).join("") + (rows.length > 40 ? `<p class="soft">and ${rows.length - 40} more nodes.</p>` : "");
    const { edges, replaced } = store.left();
    const changed = edges < store.edges.length || replaced > 0;
    this.save.disabled = !changed;
    this.command.textContent = `hepkan ${replaced ? "symbolic" : "prune"} ${store.data.run} --edits edits.json`;
  }

  private equation(l: number, sum: number, edges: Edge[], symbolic: Edge[]): string {
    const { store } = this;
    const layer = store.network.layers[l];
    const alone = layer.outputs - layer.products;
    const output = sum < alone ? sum : alone + Math.floor((sum - alone) / 2);
    const name = labelMath(nodeName(store, l + 1, output)) + (sum < alone ? "" : `<mo>·</mo><mtext>factor\u00a0${1 + ((sum - alone) % 2)}</mtext>`);
    const splines = edges.filter((edge) => !store.edits.has(edge.key));
    const terms = symbolic.map((edge) => {
      const change = store.edits.get(edge.key)!;
      if (change.kind !== "replace") return "";
      const body = change.candidate.body;
      return `<mrow><mo>[</mo>${mathml(body, body.outputs[0], () => labelMath(nodeName(store, l, edge.input)))}<mo>]</mo></mrow>`;
    });
    splines.slice(0, TERMS).forEach((edge) => {
      terms.push(`<msub><mi>φ</mi><mn>${edge.input + 1}</mn></msub><mrow><mo>(</mo>${labelMath(nodeName(store, l, edge.input))}<mo>)</mo></mrow>`);
    });
    let bias = layer.bias[sum];
    for (const edge of store.edges) {
      if (edge.layer === l && edge.sum === sum && store.edits.get(edge.key)?.kind === "remove") bias += layer.mean[edge.place];
    }
    const more = splines.length > TERMS ? `<mo>+</mo><mtext>${splines.length - TERMS}\u00a0more\u00a0splines</mtext>` : "";
    return `<p class="equation"><math displaystyle="true">${this.leftSide(l, output, name)}<mo>=</mo>${mn(bias)}${terms.map((term) => `<mo>+</mo>${term}`).join("")}${more}</math></p>`;
  }

  /** An output is a logit, or a target less its mean in units of its deviation. */
  private leftSide(l: number, output: number, name: string): string {
    const { data } = this.store;
    if (l < data.layers.length - 1) return name;
    if (data.kind !== "regression") return `<mtext>logit of\u00a0</mtext>${name}`;
    if (!data.output_map) return `<mtext>standardised\u00a0</mtext>${name}`;
    const { mean, scale } = data.output_map;
    if (mean[output] === 0 && scale[output] === 1) return name;
    const sign = mean[output] < 0 ? "+" : "−";
    return `<mfrac><mrow>${name}<mo>${sign}</mo>${mn(Math.abs(mean[output]))}</mrow><mrow>${mn(scale[output])}</mrow></mfrac>`;
  }

  private download(): void {
    const text = `${JSON.stringify(this.store.script(), null, 1)}\n`;
    const link = h("a", { href: URL.createObjectURL(new Blob([text], { type: "application/json" })), download: "edits.json" });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }
}
