// The page: reads what Python embedded and puts the parts in their places.
import "./style.css";
import { Diagram } from "./diagram";
import { h, set } from "./dom";
import { Features } from "./features";
import { PRIMITIVES } from "./functions";
import { EdgeCard, FormulaCard, Output, Toolbar } from "./panels";
import type { Payload } from "./payload";
import { Store } from "./store";

function theme(store: Store): HTMLElement {
  const button = h("button", { type: "button", class: "quiet theme" });
  const dark = () => document.documentElement.dataset.theme === "dark";
  const show = () => {
    button.textContent = dark() ? "Light" : "Dark";
    set(button, { "aria-label": `Switch to ${dark() ? "light" : "dark"} colours` });
  };
  const prefers = window.matchMedia("(prefers-color-scheme: dark)");
  const choose = (name: string) => {
    document.documentElement.dataset.theme = name;
    show();
    store.themed();
  };
  button.addEventListener("click", () => choose(dark() ? "light" : "dark"));
  prefers.addEventListener("change", () => choose(prefers.matches ? "dark" : "light"));
  document.documentElement.dataset.theme = prefers.matches ? "dark" : "light";
  show();
  return button;
}

function start(): void {
  const data = JSON.parse(document.getElementById("payload")!.textContent!) as Payload;
  const store = new Store(data);
  const page = document.getElementById("explorer")!;
  document.querySelector("header .actions")!.append(theme(store));
  const diagram = new Diagram(store);
  const toolbar = new Toolbar(store);
  const main = h("section", { class: "card stage", "aria-label": "The network" }, toolbar.element, diagram.element);
  const [output, edge] = [new Output(store).element, new EdgeCard(store).element];
  page.replaceChildren(main, output, edge, new Features(store).element, new FormulaCard(store).element);
  store.select(store.edges[0] ?? null);
  void store.evaluate();
  // For checks from outside, and for the curious at the console.
  Object.assign(window, { explorer: { store, diagram, primitives: PRIMITIVES } });
}

start();
