// The event: which one, its features as sliders above their densities, and what each adds to the output.
import { digits, h, markup, plain, s, set } from "./dom";
import { density, densityPath } from "./plots";
import type { Store } from "./store";

const SHOWN = 12;
const BINS = 40;

interface Row {
  element: HTMLElement;
  input: number;
  slider: HTMLInputElement;
  value: HTMLElement;
  bar: HTMLElement;
  amount: HTMLElement;
  steps: number[] | null;
  low: number;
  high: number;
  shown: number;
}

export class Features {
  readonly element = h("section", { class: "card features", "aria-labelledby": "event-title" });
  private rows: Row[] = [];
  private readonly list = h("div", { class: "feature-list" });
  private readonly which = h("p", { class: "which", "aria-live": "polite" });
  private readonly undo = h("button", { type: "button", class: "quiet" }, "Undo changes");
  private readonly all = h("button", { type: "button", class: "quiet", "aria-expanded": "false" });
  private scale = 0;
  private readonly now = h("output", { class: "now", "aria-label": "Output for this event" });

  constructor(private readonly store: Store) {
    const totals = new Float64Array(store.features);
    for (const edge of store.edges) if (edge.layer === 0) totals[edge.input] += edge.share;
    const order = Array.from(totals.keys()).sort((a, b) => totals[b] - totals[a]);
    this.rows = order.map((input) => this.row(input));
    this.list.append(...this.rows.map((row) => row.element));
    const head = h("div", { class: "features-head" }, h("h2", { id: "event-title" }, "The event"), this.now);
    const inner = h("div", { class: "features-inner", tabindex: 0, role: "region", "aria-label": "Inputs of the event" }, head, this.chooser(), this.which, this.list);
    this.element.append(inner);
    if (order.length > SHOWN) {
      this.all.addEventListener("click", () => this.fold(this.all.getAttribute("aria-expanded") === "true"));
      inner.append(this.all);
      this.fold(true);
    }
    this.undo.addEventListener("click", () => store.choose(store.eventNumber));
    store.on((change) => {
      if (change === "event" || change === "output") this.update();
    });
    this.update();
  }

  private fold(closed: boolean): void {
    this.all.setAttribute("aria-expanded", String(!closed));
    this.all.textContent = closed ? `Show all ${this.rows.length} inputs` : `Show the ${SHOWN} most important inputs`;
    this.rows.forEach((row, place) => (row.element.hidden = closed && place >= SHOWN));
    this.update();
  }

  private chooser(): HTMLElement {
    const { store } = this;
    const { processes, n } = store.data.sample;
    const pick = (wanted: (event: number) => boolean) => {
      const events = Array.from({ length: n }, (_, event) => event).filter(wanted);
      if (!events.length) return;
      store.mode = "event";
      store.choose(events[Math.floor(Math.random() * events.length)]);
      store.setMode("event");
    };
    const random = h("button", { type: "button" }, "Random event");
    const select = h("select", { "aria-label": "Kind of event" }, h("option", { value: "" }, "any process"));
    processes.forEach((name, code) => select.append(h("option", { value: code }, name.replace(/_/g, " "))));
    const wanted = (event: number) => select.value === "" || store.process[event] === Number(select.value);
    random.addEventListener("click", () => pick(wanted));
    select.addEventListener("change", () => pick(wanted));
    const extreme = h("select", { "aria-label": "Special events" }, h("option", { value: "" }, "special events …"));
    for (const [value, text] of this.specials()) extreme.append(h("option", { value }, text));
    extreme.addEventListener("change", () => {
      const event = this.special(extreme.value);
      if (event >= 0) {
        store.mode = "event";
        store.choose(event);
        store.setMode("event");
      }
      extreme.value = "";
    });
    return h("div", { class: "row chooser" }, random, select, extreme, this.undo);
  }

  private specials(): [string, string][] {
    if (this.store.data.kind !== "binary") return [["worst", "largest error"], ["best", "smallest error"]];
    const [background, signal] = this.store.data.classes.map((name) => name.replace(/_/g, " "));
    return [
      ["signal", `surest ${signal}`],
      ["background", `surest ${background}`],
      ["missed", `${signal} taken for ${background}`],
      ["fake", `${background} taken for ${signal}`],
    ];
  }

  private special(kind: string): number {
    const { store } = this;
    const scores = store.measure?.scores;
    if (!scores) return -1;
    const width = scores.length / store.data.sample.n;
    const key = (event: number): number => {
      if (store.data.kind === "binary") {
        const isSignal = store.target[event] === 1;
        const wanted = kind === "signal" || kind === "missed";
        if (isSignal !== wanted) return -Infinity;
        return kind === "signal" || kind === "fake" ? scores[event] : -scores[event];
      }
      let size = 0;
      if (store.data.kind === "classes") size = 1 - scores[event * width + store.target[event]];
      else for (let t = 0; t < width; t++) size += Math.abs(scores[event * width + t] - store.target[event * width + t]) / store.data.targets[t].scale!;
      return kind === "worst" ? size : -size;
    };
    let best = -1;
    let most = -Infinity;
    for (let event = 0; event < store.data.sample.n; event++) {
      const value = key(event);
      if (value > most) [best, most] = [event, value];
    }
    return best;
  }

  private row(input: number): Row {
    const { store } = this;
    const one = store.data.inputs[input];
    const n = store.data.sample.n;
    const sorted = Float64Array.from({ length: n }, (_, event) => store.x[event * store.features + input]).sort();
    const distinct = [...new Set(sorted)];
    const steps = distinct.length <= 12 ? distinct : null;
    const [low, high] = steps ? [steps[0], steps.at(-1)!] : [sorted[Math.floor(0.004 * n)], sorted[Math.ceil(0.996 * n) - 1]];
    const slider = h("input", { type: "range", min: 0, max: steps ? Math.max(1, steps.length - 1) : 1000, step: 1, "aria-label": plain(one.label) });
    const value = h("output", { class: "value" });
    const bar = h("span", { class: "bar" });
    const amount = h("span", { class: "amount" });
    const row: Row = { element: h("div", { class: "feature" }), input, slider, value, bar, amount, steps, low, high, shown: NaN };
    slider.addEventListener("input", () => store.drag(input, this.valueOf(row)));
    slider.addEventListener("pointerdown", () => store.mode === "importance" && store.setMode("event"));
    const strip = s("svg", { class: "strip", viewBox: "0 0 100 20", preserveAspectRatio: "none", "aria-hidden": "true" });
    const span = high - low || 1;
    const half = steps ? span / (2 * Math.max(1, steps.length - 1)) : 0;
    const found = density(store, (event) => store.x[event * store.features + input], low - half, high + half + 1e-9 * span, BINS);
    found.groups.forEach((bins, g) => {
      const path = densityPath(bins, (bin) => (100 * bin) / BINS, (y) => 20 - 19 * y);
      strip.append(s("path", { d: path, class: `density group-${found.groups.length === 2 ? g : 1}` }));
    });
    row.element.append(
      h("div", { class: "feature-head" }, markup("span", one.label, { class: "name" }), h("span", {}, value, one.unit ? h("span", { class: "unit" }, ` ${one.unit}`) : "")),
      h("div", { class: "track" }, strip, slider),
      h("div", { class: "push" }, h("span", { class: "lane" }, bar), amount),
    );
    return row;
  }

  private valueOf(row: Row): number {
    const at = Number(row.slider.value);
    if (row.steps) return row.steps[Math.min(row.steps.length - 1, at)];
    return Math.fround(row.low + ((row.high - row.low) * at) / 1000);
  }

  /** Bring a row up to date; what has not changed is left alone, so that it is not painted again. */
  private refresh(row: Row, push: number): void {
    const raw = this.store.raw[row.input];
    if (raw !== row.shown) {
      row.shown = raw;
      if (document.activeElement !== row.slider || !this.store.moved) {
        const at = row.steps ? row.steps.indexOf(raw) : (1000 * (raw - row.low)) / (row.high - row.low || 1);
        row.slider.value = String(Math.round(at));
      }
      row.value.textContent = digits(raw, 4);
      set(row.slider, { "aria-valuetext": `${digits(raw, 4)} ${this.store.data.inputs[row.input].unit}` });
    }
    const text = (push >= 0 ? "+" : "−") + digits(Math.abs(push), 2);
    const style = `transform:scaleX(${(push / this.scale).toFixed(3)})`;
    if (text === row.amount.textContent && style === row.bar.getAttribute("style")) return;
    row.amount.textContent = text;
    set(row.bar, { class: `bar ${push >= 0 ? "up" : "down"}`, style });
  }

  private update(): void {
    const { store } = this;
    const pushes = new Float64Array(store.features);
    const first = store.network.layers[0];
    for (let i = 0; i < store.features; i++) for (let o = 0; o < first.sums; o++) pushes[i] += store.contributions[0][i * first.sums + o];
    const largest = pushes.reduce((most, one) => Math.max(most, Math.abs(one)), 1e-12);
    this.scale = Math.max(largest, 0.9 * this.scale);
    for (const row of this.rows) if (!row.element.hidden) this.refresh(row, pushes[row.input]);
    this.now.textContent = digits(store.prediction[store.column], 3);
    this.undo.hidden = !store.moved;
    const process = store.data.sample.processes[store.process[store.eventNumber]].replace(/_/g, " ");
    this.which.textContent = `Event ${store.eventNumber + 1} of ${store.data.sample.n}, ${process}${store.moved ? ", with changes" : ""}. Bars: what each input adds to the output, to first order.`;
  }
}
