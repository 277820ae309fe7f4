// Charts over steps, or over any few numbers: uPlot, with a legend that reads out, keys, and the figures as a table.
import { figure, h, table } from "./dom.js";

const DASHES = [[], [6, 3], [2, 3], [8, 3, 2, 3], [1, 4], [12, 4]];
const TINT = "66"; // of a fill: its opacity
const drawn = [];

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const shade = (position) => `--series-${position % 7}`;

/** Take down the charts of the page that is left. */
export function clearCharts() {
  for (const { plot, watch } of drawn.splice(0)) {
    watch.disconnect();
    plot.destroy();
  }
}

/**
 * A figure. `series` are {label, values, points}, over `x`; null is a gap. `kind`: "lines", "bars", or "stack" where
 * each series stands on the one before. `open(x)` is what a click or Enter on a value does.
 */
export function chart({ title, x, series, kind = "lines", range, format = figure, unit = "step", open }) {
  if (!series.length) return h("figure", { class: "panel chart", "data-chart": title }, h("figcaption", {}, title), h("p", { class: "muted" }, "Nothing recorded."));
  const shown = kind === "stack" ? stacked(series) : series.map(({ values }) => values);
  const last = x.length - 1;
  const readout = series.map(() => h("b"));
  const place = h("span", { class: "muted" });
  const legend = h("div", { class: "legend" }, series.map(({ label }, position) =>
    h("span", { class: "key", style: { "--shade": `var(${shade(position)})` } }, h("i"), label, " ", readout[position])), place);
  const read = (at) => {
    series.forEach(({ values }, position) => (readout[position].textContent = format(at === null ? (kind === "bars" ? total(values) : latest(values)) : values[at])));
    place.textContent = at === null ? "" : `${unit} ${figure(x[at])}`;
  };
  read(null);
  const hint = `${title}. ${unit} ${figure(x[0])} to ${figure(x[last])}. Arrow keys read values${open ? ", Enter opens them" : ""}.`;
  const canvas = h("div", { class: "canvas", tabindex: 0, role: "img", "aria-label": hint });
  requestAnimationFrame(() => canvas.isConnected && draw(canvas, { x, shown, series, kind, range, format, read, open }));
  const rows = () => x.map((at, row) => [figure(at), ...series.map(({ values }) => format(values[row]))]);
  const columns = [...series.keys()].map((position) => position + 1);
  const figures = h("details", { ontoggle: () => figures.childElementCount > 1 || figures.append(h("div", { class: "scroll", tabindex: 0 },
    table(title, [unit, ...series.map(({ label }) => label)], rows(), [0, ...columns]))) }, h("summary", {}, "Figures"));
  return h("figure", { class: "panel chart", "data-chart": title }, h("figcaption", {}, title), legend, canvas, figures);
}

function draw(canvas, { x, shown, series, kind, range, format, read, open }) {
  const axis = { stroke: colour("--muted"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false }, font: `11px ${colour("--sans")}` };
  const bars = kind === "bars" ? uPlot.paths.bars({ size: [0.7, 64], align: 0 }) : undefined;
  const size = () => ({ width: canvas.clientWidth, height: canvas.clientHeight });
  const line = (position) => {
    const stroke = colour(shade(position));
    const fill = kind === "bars" || (kind === "stack" && position === 0) ? stroke + TINT : undefined;
    const lone = series[position].points || shown[position].filter((value) => value !== null).length === 1;
    return {
      stroke, fill, paths: bars, spanGaps: true, width: 1.5,
      dash: kind === "lines" ? DASHES[position % DASHES.length] : undefined, points: { show: kind === "lines" && lone, size: 6, fill: stroke },
    };
  };
  const narrow = kind === "bars" ? { range: [x[0] - 0.6, x[x.length - 1] + 0.6] } : {};
  const plot = new uPlot({
    ...size(),
    legend: { show: false },
    cursor: { y: false, drag: { x: false, y: false }, sync: kind === "bars" ? undefined : { key: "step" }, points: { size: 6 } },
    scales: { x: { time: false, ...narrow }, y: range ? { range } : { range: { min: { pad: 0.1, soft: 0, mode: 1 }, max: { pad: 0.1 } } } },
    axes: [{ ...axis, grid: { show: false }, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000], size: 26 },
      { ...axis, size: 46, values: (_, ticks) => ticks.map((tick) => format(tick)) }],
    series: [{}, ...[...series.keys()].map(line)],
    bands: kind === "stack" ? [...series.keys()].slice(1).map((position) => ({ series: [position + 1, position], fill: colour(shade(position)) + TINT })) : [],
    hooks: { setCursor: [(self) => read(self.cursor.idx ?? null)] },
  }, [x, ...shown], canvas);
  const watch = new ResizeObserver(() => plot.setSize(size()));
  watch.observe(canvas);
  drawn.push({ plot, watch });
  listen(canvas, plot, x, open);
}

function listen(canvas, plot, x, open) {
  canvas.addEventListener("keydown", (event) => {
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    const at = plot.cursor.idx ?? (by === 1 ? -1 : x.length);
    if (by) {
      const next = Math.min(x.length - 1, Math.max(0, at + by));
      plot.setCursor({ left: plot.valToPos(x[next], "x"), top: 1 });
      event.preventDefault();
    } else if (event.key === "Enter" && open && x[at] !== undefined) {
      open(x[at]);
    }
  });
  if (open) {
    canvas.classList.add("opens");
    plot.over.addEventListener("click", () => plot.cursor.idx !== null && open(x[plot.cursor.idx]));
  }
}

function stacked(series) {
  let below = series[0].values.map(() => 0);
  return series.map(({ values }) => (below = values.map((value, at) => below[at] + (value ?? 0))));
}

function total(values) {
  return values.reduce((sum, value) => sum + value, 0);
}

function latest(values) {
  return values.findLast((value) => value !== null && value !== undefined) ?? null;
}
