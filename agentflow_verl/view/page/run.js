// The page of a run: how it learned, how trajectories ended, which tools they called, what took the time.
import { chart } from "./charts.js";
import { Missing, address, distinct, store } from "./data.js";
import { figure, h, mean, percent, seconds, table, words } from "./dom.js";
import { advantageMark } from "./parts.js";

const succeeded = (row) => row.reward >= 1;
const scored = (rows) => rows.filter((row) => row.reward !== null);
const successOf = (rows) => mean(scored(rows).map((row) => +succeeded(row)));
const rewardOf = (rows) => mean(scored(rows).map((row) => row.reward));

/** The share of groups that the update learns from: where all rewards are equal, every advantage is 0. */
const signalOf = (rows) => mean([...new Set(rows.map((row) => row.group))].map((group) => +(new Set(scored(group.members).map((row) => row.reward)).size > 1)));

export function rowsOf(run, split, step) {
  return store.trajectories.filter(({ group }) => group.run === run && (!split || group.split === split) && (step === undefined || group.step === step));
}

export function runPage({ parts }) {
  const number = +(parts[0] ?? 0);
  const run = store.runs[number];
  if (!run) throw new Missing(`there is no run ${parts[0]}`);
  const rows = rowsOf(number);
  if (!rows.length) return [h("h1", {}, run.name), h("p", { class: "muted" }, "No trajectories yet. This page follows the run."), notes(run)];
  const by = { train: stepsOf(rows, "train"), val: stepsOf(rows, "val") };
  const open = (split) => (step) => (location.hash = address("list", [], { run: number, split, from: step, to: step }));
  const main = by.train.size ? "train" : "val";
  return [
    h("div", { class: "head" }, h("h1", {}, run.name), otherRuns(number)),
    keyFigures(rows, by),
    h("div", { class: "charts" },
      learning("Success", successOf, percent, by, open(main)),
      learning("Reward", rewardOf, figure, by, open(main)),
      overSteps("Outcomes", by[main], store.outcomes.map((name) => [words(name), (some) => mean(some.map((row) => +(row.outcome === name)))]), percent, "stack", open(main), [0, 1]),
      overSteps("Tool calls per trajectory", by[main], store.tools.map((name) => [name, (some) => mean(some.map((row) => row.tools.filter((tool) => tool === name).length))]), figure, "lines", open(main)),
      turnHistogram(rows),
      overSteps("Time per trajectory", by[main], store.parts.slice(0, -1).map((name, at) => [name, (some) => mean(some.map((row) => row.seconds[at]))]), seconds, "stack", open(main)),
      overSteps("Planner tokens per trajectory", by[main], [["tokens", (some) => mean(some.map((row) => row.tokens))]], figure, "lines", open(main)),
      by.train.size > 0 && overSteps("Groups whose rewards differ", by.train, [["groups", signalOf]], percent, "lines", open("train"), [0, 1]),
      metricPicker(run)),
    sources(rows, by),
    credit(run),
    notes(run)];
}

/** Files of the run's folder that could not be read: they cost this panel, not the page. */
function notes(run) {
  return run.notes.length > 0 && h("section", { class: "panel" }, h("h2", {}, "Not read"), run.notes.map((note) => h("p", { class: "note bad" }, note)));
}

function stepsOf(rows, split) {
  const steps = new Map();
  for (const row of rows) {
    if (row.group.split !== split) continue;
    if (!steps.has(row.group.step)) steps.set(row.group.step, []);
    steps.get(row.group.step).push(row);
  }
  return new Map([...steps].sort(([a], [b]) => a - b));
}

function otherRuns(number) {
  return store.runs.length > 1 && h("nav", { class: "chips", "aria-label": "Runs" }, store.runs.map((run, position) =>
    h("a", { href: address("run", [position]), "aria-current": position === number ? "page" : undefined }, run.name)));
}

function keyFigures(rows, { train, val }) {
  const checkpoints = [...val.keys()];
  const held = (step) => (step === undefined ? null : successOf(val.get(step)));
  const first = held(checkpoints[0]);
  const last = held(checkpoints.at(-1));
  const newest = [...train.keys()].at(-1);
  const faults = rows.filter((row) => row.outcome === "infra_error").length;
  const items = [
    ["Held-out success", percent(last), checkpoints.length > 1 ? `${percent(first)} at step ${checkpoints[0]}` : ""],
    ["Training success", percent(newest === undefined ? null : successOf(train.get(newest))), newest === undefined ? "" : `step ${newest}`],
    ["Trajectories", figure(rows.length), `${figure(new Set(rows.map((row) => row.group)).size)} groups`],
    ["Turns", figure(mean(rows.map((row) => row.turns))), "per trajectory"],
    ["Planner tokens", figure(mean(rows.map((row) => row.tokens)), 1), "per trajectory"],
    ["Time", seconds(mean(rows.map((row) => row.seconds.at(-1)))), "per trajectory"],
    ["Faults", figure(faults), "left out of the loss"],
  ];
  return h("dl", { class: "key-figures panel" }, items.map(([name, value, note]) => h("div", {}, h("dt", {}, name), h("dd", {}, value), h("small", {}, note))));
}

function learning(title, statistic, format, { train, val }, open) {
  const x = distinct([...train.keys(), ...val.keys()]);
  const curve = (steps) => x.map((step) => (steps.has(step) ? statistic(steps.get(step)) : null));
  const series = [{ label: "training", values: curve(train) }, { label: "held out", values: curve(val), points: true }];
  return chart({ title, x, series, format, open, range: title === "Success" ? [0, 1] : undefined });
}

function overSteps(title, steps, statistics, format, kind, open, range) {
  const x = [...steps.keys()];
  const series = statistics.map(([label, statistic]) => ({ label, values: x.map((step) => statistic(steps.get(step))) }));
  return chart({ title, x, series: series.filter(({ values }) => values.some((value) => value)), format, kind, open, range });
}

function turnHistogram(rows) {
  const most = rows.reduce((least, row) => Math.max(least, row.turns), 1);
  const fewest = rows.some((row) => row.turns === 0) ? 0 : 1;
  const x = Array.from({ length: most - fewest + 1 }, (_, place) => fewest + place);
  const values = x.map((turns) => rows.filter((row) => row.turns === turns).length);
  return chart({ title: "Turns", x, series: [{ label: "trajectories", values }], kind: "bars", unit: "turns", format: (value) => figure(value, 0) });
}

function metricPicker(run) {
  const names = Object.keys(run.curves);
  if (!names.length) return h("div", { class: "panel muted" }, "No metrics file in the run's folder: add “file” to trainer.logger for the trainer's own curves.");
  const holder = h("div");
  const show = () => {
    const points = run.curves[select.value];
    holder.replaceChildren(chart({ title: select.value, x: points.map(([step]) => step), series: [{ label: "value", values: points.map(([, value]) => (typeof value === "number" ? value : null)) }] }));
  };
  const select = h("select", { name: "metric", onchange: show }, names.map((name) => h("option", { value: name }, name)));
  select.value = names.find((name) => name === "actor/entropy") ?? names[0];
  show();
  return h("div", { class: "panel picker" }, h("label", {}, "Metric", select), holder);
}

function sources(rows, { train, val }) {
  const [split, steps] = val.size ? ["val", [...val.keys()]] : ["train", [...train.keys()].slice(-6)];
  const names = distinct(rows.filter((row) => row.group.split === split).map((row) => row.group.source));
  const cell = (step, name) => percent(successOf((split === "val" ? val : train).get(step).filter((row) => row.group.source === name)));
  const body = names.map((name) => [name || "–", ...steps.map((step) => cell(step, name))]);
  return h("section", { class: "panel" }, h("h2", {}, split === "val" ? "Held-out success by data source" : "Training success by data source"),
    h("div", { class: "scroll", tabindex: 0 }, table("Success by data source", ["data source", ...steps.map((step) => `step ${step}`)], body, steps.map((_, at) => at + 1))));
}

/** Success by each turn's tool, verdict and error, within groups: see trajectories/turn_credit.py. */
function credit({ credit: choices }) {
  if (!choices.length) return null;
  const holder = h("div", { class: "scroll", tabindex: 0 });
  const label = ({ split, first, last }) => `${split === "train" ? "training" : "held out"}, ${first === last ? `step ${first}` : `steps ${first} to ${last}`}`;
  const show = () => holder.replaceChildren(creditTable(choices[+select.value].rows));
  const select = h("select", { name: "credit", onchange: show }, choices.map((choice, at) => h("option", { value: at }, label(choice))));
  show();
  return h("section", { class: "panel credit" }, h("h2", {}, "Success by what a turn did"), h("label", {}, "Trajectories", select),
    h("p", { class: "muted small" }, "Against the group: the share of successes with the choice minus that of all trajectories of the group that reached the turn, averaged over the groups in which something else was chosen too. Trajectories and success are of all groups."), holder);
}

function creditTable(rows) {
  const body = rows.map((row) => [figure(row.turn), row.aspect, h("span", { class: "tool" }, row.choice), figure(row.trajectories), percent(row.success), advantageMark(row.difference, 1), figure(row.groups)]);
  return table("Success by what a turn did", ["turn", "of its", "was", "trajectories", "success", "against the group", "groups"], body, [0, 3, 4, 6]);
}
