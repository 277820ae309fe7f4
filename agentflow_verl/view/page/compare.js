// Two runs, or two checkpoints of one, on the questions that both answered.
import { chart } from "./charts.js";
import { Missing, address, detailsOf, distinct, store } from "./data.js";
import { figure, h, mean, percent, signed } from "./dom.js";
import { columns, field, text } from "./parts.js";
import { rowsOf } from "./run.js";

const MOST_ROWS = 500;

/** A side is one run's split at one step: "run.split.step". */
function sides() {
  const found = new Map();
  for (const { run, split, step } of store.groups) found.set(`${run}.${split}.${step}`, { run, split, step });
  const name = ({ run, split, step }) => `${store.runs[run].name}: ${split === "val" ? "checkpoint" : "training"} of step ${step}`;
  return [...found].map(([key, side]) => ({ key, ...side, name: name(side) })).sort((a, b) => a.run - b.run || b.split.localeCompare(a.split) || a.step - b.step);
}

function questionsOf({ run, split, step }) {
  const questions = new Map();
  for (const group of store.groups) {
    if (group.run !== run || group.split !== split || group.step !== step) continue;
    const key = `${group.query}\u0000${group.truth}`;
    if (!questions.has(key)) questions.set(key, []);
    questions.get(key).push(group);
  }
  return questions;
}

const rewardOf = (groups) => mean(groups.flatMap((group) => group.members).map((row) => row.reward).filter((reward) => reward !== null));

function chosen(query) {
  const all = sides();
  const held = all.filter((side) => side.split === "val");
  const usual = held.length > 1 ? held : all;
  const first = store.runs.length > 1 ? usual.findLast((side) => side.run === usual[0].run) : usual[0];
  const a = all.find((side) => side.key === query.a) ?? first;
  const shares = (side) => [...questionsOf(side).keys()].some((key) => mine.has(key));
  const mine = a && questionsOf(a);
  const b = all.find((side) => side.key === query.b) ?? usual.findLast(shares) ?? a;
  return { all, a, b };
}

function pairs(a, b) {
  const [left, right] = [questionsOf(a), questionsOf(b)];
  return [...left].filter(([key]) => right.has(key)).map(([key, groups], number) => {
    const before = rewardOf(groups);
    const after = rewardOf(right.get(key));
    return { key, number, left: groups, right: right.get(key), before, after, change: before === null || after === null ? null : after - before };
  });
}

export function comparePage({ query }) {
  const { all, a, b } = chosen(query);
  if (!a) return [h("h1", {}, "Compare"), h("p", { class: "muted" }, "Nothing to compare yet.")];
  const go = (change) => (location.hash = address("compare", [], { a: a.key, b: b.key, show: query.show, ...change }));
  const pick = (name, side) => {
    const select = h("select", { name, onchange: () => go({ [name]: select.value }) }, all.map(({ key, name: label }) => h("option", { value: key, selected: key === side.key }, label)));
    return h("label", {}, name.toUpperCase(), select);
  };
  const both = pairs(a, b);
  const kinds = { better: (pair) => pair.change > 0, worse: (pair) => pair.change < 0, same: (pair) => pair.change === 0 };
  const shown = both.filter(kinds[query.show] ?? (() => true)).sort((one, other) => Math.abs(other.change) - Math.abs(one.change));
  const chip = (kind, label, count) => h("a", { href: address("compare", [], { a: a.key, b: b.key, show: kind }), "aria-current": (query.show ?? "") === kind ? "page" : undefined }, `${label} `, h("b", {}, figure(count)));
  return [
    h("h1", {}, "Compare"),
    h("form", { class: "filters panel" }, pick("a", a), pick("b", b)),
    h("dl", { class: "key-figures panel" },
      h("div", {}, h("dt", {}, "Questions in both"), h("dd", {}, figure(both.length)), h("small", {}, "same question, same truth")),
      h("div", {}, h("dt", {}, "Mean reward, A"), h("dd", {}, figure(mean(both.map((pair) => pair.before).filter((value) => value !== null)), 3)), h("small", {}, a.name)),
      h("div", {}, h("dt", {}, "Mean reward, B"), h("dd", {}, figure(mean(both.map((pair) => pair.after).filter((value) => value !== null)), 3)), h("small", {}, b.name))),
    a.run !== b.run && curves(a.run, b.run),
    h("nav", { class: "chips", "aria-label": "Which questions" }, chip("", "All", both.length), Object.entries(kinds).map(([kind, test]) => chip(kind, `B ${kind}`, both.filter(test).length))),
    h("div", { class: "panel scroll", tabindex: 0 }, h("table", { class: "rows" }, h("caption", { class: "unseen" }, "Questions in both"),
      h("thead", {}, h("tr", {}, ["question", "source", "A", "B", "change"].map((head, at) => h("th", { scope: "col", class: at > 1 ? "number" : undefined }, head)))),
      h("tbody", {}, shown.slice(0, MOST_ROWS).map((pair) => h("tr", { "data-row": true },
        h("td", { class: "question" }, h("a", { href: address("question", [pair.number], { a: a.key, b: b.key }) }, pair.left[0].query.slice(0, 200))), h("td", { class: "muted" }, pair.left[0].source),
        h("td", { class: "number" }, figure(pair.before)), h("td", { class: "number" }, figure(pair.after)),
        h("td", { class: `number ${pair.change > 0 ? "good" : pair.change < 0 ? "bad" : ""}` }, signed(pair.change)))))),
      shown.length > MOST_ROWS && h("p", { class: "muted" }, `The ${MOST_ROWS} largest changes of ${figure(shown.length)}.`))];
}

function curves(one, other) {
  const statistic = (run, step) => mean(rowsOf(run, "train", step).filter((row) => row.reward !== null).map((row) => +(row.reward >= 1)));
  const x = distinct(store.groups.filter((group) => group.split === "train" && [one, other].includes(group.run)).map((group) => group.step));
  const series = [one, other].map((run) => ({ label: store.runs[run].name, values: x.map((step) => statistic(run, step)) }));
  return x.length > 0 && chart({ title: "Training success", x, series, format: percent, range: [0, 1] });
}

/** One question, both sides. */
export async function questionPage({ parts, query }) {
  const { a, b } = chosen(query);
  const pair = a && pairs(a, b)[+parts[0]];
  if (!pair) throw new Missing("there is no such question in both");
  const side = async (label, { name }, groups, reward) => [
    h("h2", {}, `${label}: ${name}`, h("span", { class: "muted" }, ` mean reward ${figure(reward, 3)}`)),
    columns(groups.flatMap((group) => group.members), (await Promise.all(groups.map(detailsOf))).flat())];
  return [
    h("nav", { class: "trail", "aria-label": "Place" }, h("a", { href: address("compare", [], { a: a.key, b: b.key }) }, "Compare"), h("span", {}, "question")),
    h("h1", { class: "question" }, pair.left[0].query), h("dl", { class: "facts panel" }, field("Truth", text(pair.left[0].truth, "strong")), field("Change", signed(pair.change))),
    h("div", { class: "sides" }, h("section", {}, await side("A", a, pair.left, pair.before)), h("section", {}, await side("B", b, pair.right, pair.after)))];
}
