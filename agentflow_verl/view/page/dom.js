// Elements and figures. Text from outside becomes text nodes: nothing here, or in any other file, parses markup.

/** An element: attributes, "on…" listeners, and children that are elements or plain text. */
export function h(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "style") for (const [key, text] of Object.entries(value)) node.style.setProperty(key, text);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

/** A number for reading: at most `digits` after the point; a dash where there is none. */
export function figure(value, digits = 2) {
  if (value === null || value === undefined) return "–";
  if (typeof value !== "number") return String(value);
  if (value !== 0 && Math.abs(value) < 0.5 * 10 ** -digits) return value.toExponential(1).replace("-", "−").replace("e-", "e−");
  return value.toLocaleString("en", { maximumFractionDigits: digits }).replace("-", "−");
}

export function signed(value) {
  const text = figure(value, 2);
  return typeof value === "number" && value > 0 ? `+${text}` : text;
}

export function seconds(value) {
  return value === null || value === undefined ? "–" : `${figure(value, value < 1 ? 3 : 2)} s`;
}

export function percent(value) {
  return value === null || value === undefined ? "–" : `${figure(100 * value, 1)} %`;
}

export function words(name) {
  return name.replaceAll("_", " ");
}

export function mean(values) {
  return values.length ? values.reduce((sum, value) => sum + value, 0) / values.length : null;
}

/** The unbiased standard deviation, as the algorithm's. */
export function deviation(values) {
  const centre = mean(values);
  return values.length > 1 ? Math.sqrt(values.reduce((sum, value) => sum + (value - centre) ** 2, 0) / (values.length - 1)) : 0;
}

/** A table of plain cells; a cell may be an element. Columns named in `numeric` are set right. */
export function table(caption, heads, rows, numeric = []) {
  const kind = (column) => (numeric.includes(column) ? "number" : undefined);
  return h("table", {},
    h("caption", { class: "unseen" }, caption),
    h("thead", {}, h("tr", {}, heads.map((head, column) => h("th", { scope: "col", class: kind(column) }, head)))),
    h("tbody", {}, rows.map((row) => h("tr", {}, row.map((cell, column) => h("td", { class: kind(column) }, cell))))));
}
