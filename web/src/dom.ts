// Short words for making elements, and numbers as text.

type Attributes = Record<string, string | number | boolean | undefined>;
type Child = Node | string;

/** Return an HTML element. */
export function h<K extends keyof HTMLElementTagNameMap>(tag: K, attributes: Attributes = {}, ...children: Child[]): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  set(element, attributes);
  element.append(...children);
  return element;
}

/** Return an SVG element. */
export function s<K extends keyof SVGElementTagNameMap>(tag: K, attributes: Attributes = {}, ...children: Child[]): SVGElementTagNameMap[K] {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  set(element, attributes);
  element.append(...children);
  return element;
}

export function set(element: Element, attributes: Attributes): void {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === false) element.removeAttribute(name);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
}

/** Return an element with markup of the page's own making: labels and formulae. */
export function markup<K extends keyof HTMLElementTagNameMap>(tag: K, html: string, attributes: Attributes = {}): HTMLElementTagNameMap[K] {
  const element = h(tag, attributes);
  element.innerHTML = html;
  return element;
}

/** Return the text of a label without its markup. */
export function plain(html: string): string {
  return markup("span", html.replace(/<sub>/g, " ")).textContent ?? "";
}

/** Return a number with so many digits, with a true minus. */
export function digits(x: number, count = 3): string {
  if (!Number.isFinite(x)) return "–";
  const size = Math.abs(x);
  const text = size !== 0 && (size >= 1e5 || size < 1e-3) ? x.toExponential(count - 1) : String(+x.toPrecision(count));
  return text.replace("-", "−");
}

/** Return a function that calls another one once, after a pause in the calls. */
export function settled(call: () => void, milliseconds: number): () => void {
  let timer = 0;
  return () => {
    clearTimeout(timer);
    timer = window.setTimeout(call, milliseconds);
  };
}
