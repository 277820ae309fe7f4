// All trajectories: search, filters, sorting, a hundred at a time. The address holds the choice.
import { address, distinct, groupAddress, rowAddress, searchEverything, store } from "./data.js";
import { figure, h, seconds, words } from "./dom.js";
import { advantageMark, outcomeMark, rewardMark } from "./parts.js";

const PAGE_ROWS = 100;
const HEADS = [
  ["step", (row) => row.group.step], ["split", (row) => row.group.split], ["question", (row) => row.group.query], ["source", (row) => row.group.source],
  ["outcome", (row) => row.outcome], ["reward", (row) => row.reward], ["advantage", (row) => row.advantage], ["turns", (row) => row.turns],
  ["tools", (row) => row.tools.join()], ["tokens", (row) => row.tokens], ["time", (row) => row.seconds.at(-1)],
];
const NUMERIC = ["step", "reward", "turns", "tokens", "time"];

export function listPage({ query }) {
  const state = { ...query };
  const results = h("div", { class: "panel results" });
  const count = h("p", { class: "muted", role: "status" });
  let asked = 0;
  const refresh = async () => {
    const turn = ++asked;
    history.replaceState(null, "", address("list", [], state));
    let rows = store.trajectories.filter(fits(state));
    if (state.text && state.deep) {
      count.textContent = "Searching…";
      const found = await searchEverything([...new Set(rows.map((row) => row.group))], state.text.toLowerCase(), () => turn === asked);
      rows = rows.filter((row) => found.has(row) || inBrief(row).includes(state.text.toLowerCase()));
      if (turn !== asked) return;
    }
    const page = Math.min(+(state.page ?? 0), Math.max(0, Math.ceil(rows.length / PAGE_ROWS) - 1));
    count.textContent = `${figure(rows.length)} of ${figure(store.trajectories.length)} trajectories`;
    results.replaceChildren(tableOf(sorted(rows, state).slice(page * PAGE_ROWS, (page + 1) * PAGE_ROWS), state, change), pager(rows.length, page, change));
  };
  const change = (name, value, keep) => {
    state[name] = value;
    if (!keep) delete state.page;
    return refresh();
  };
  refresh();
  return [h("div", { class: "head" }, h("h1", {}, "Trajectories"), count), filters(state, change), results];
}

/** What a plain search looks at. */
const inBrief = (row) => `${row.group.query}\n${row.group.truth}\n${row.answer}\n${row.group.uid}`.toLowerCase();

function fits(state) {
  const wanted = (state.text ?? "").toLowerCase();
  const low = state.low ? +state.low : -Infinity;
  const high = state.high ? +state.high : Infinity;
  const from = state.from ? +state.from : -Infinity;
  const to = state.to ? +state.to : Infinity;
  return (row) => {
    const { group } = row;
    if (state.run && group.run !== +state.run) return false;
    if (state.split && group.split !== state.split) return false;
    if (group.step < from || group.step > to) return false;
    if (state.source && group.source !== state.source) return false;
    if (state.outcome && row.outcome !== state.outcome) return false;
    if (state.tool && !(state.tool === "(none)" ? !row.tools.length : row.tools.includes(state.tool))) return false;
    if ((state.low || state.high) && (row.reward === null || row.reward < low || row.reward > high)) return false;
    return state.deep || !wanted || inBrief(row).includes(wanted);
  };
}

function filters(state, change) {
  const choice = (name, label, values, shown = (value) => value) => {
    const select = h("select", { name, onchange: () => change(name, select.value) }, h("option", { value: "" }, "any"),
      values.map((value) => h("option", { value, selected: String(value) === state[name] }, shown(value))));
    return h("label", {}, label, select);
  };
  const number = (name, label) => h("input", { name, type: "number", step: "any", "aria-label": label, value: state[name], oninput: (event) => change(name, event.target.value) });
  const deep = h("input", { type: "checkbox", name: "deep", checked: Boolean(state.deep), onchange: () => change("deep", deep.checked ? "1" : "") });
  return h("form", { class: "filters panel", role: "search", onsubmit: (event) => event.preventDefault() },
    h("label", { class: "wide" }, "Search", h("input", { type: "search", name: "text", id: "search", value: state.text, placeholder: "question, truth or answer", autocomplete: "off",
      oninput: (event) => change("text", event.target.value) })),
    h("label", { class: "check" }, deep, "also turns and replies"),
    store.runs.length > 1 && choice("run", "Run", [...store.runs.keys()], (run) => store.runs[run].name),
    choice("split", "Split", distinct(store.groups.map((group) => group.split))),
    choice("outcome", "Outcome", store.outcomes, words),
    choice("tool", "Tool", [...store.tools, "(none)"]),
    choice("source", "Data source", store.sources),
    h("fieldset", {}, h("legend", {}, "Reward"), number("low", "reward from"), "–", number("high", "reward to")),
    h("fieldset", {}, h("legend", {}, "Step"), number("from", "step from"), "–", number("to", "step to")),
    h("a", { href: "#/list", class: "button" }, "Clear"));
}

function sorted(rows, { sort }) {
  if (!sort) return rows;
  const name = sort.replace(/^-/, "");
  const key = HEADS.find(([head]) => head === name)?.[1];
  if (!key) return rows;
  const sign = sort.startsWith("-") ? -1 : 1;
  const compare = (a, b) => (a === null) - (b === null) || sign * (typeof a === "string" ? a.localeCompare(b) : a - b);
  return [...rows].sort((a, b) => compare(key(a), key(b)));
}

function tableOf(rows, state, change) {
  const head = ([name]) => {
    const order = state.sort === name ? "ascending" : state.sort === `-${name}` ? "descending" : "none";
    const press = () => change("sort", order === "descending" ? name : `-${name}`).then(() => document.querySelector(`[data-sort="${name}"]`)?.focus());
    return h("th", { scope: "col", "aria-sort": order, class: NUMERIC.includes(name) ? "number" : undefined },
      h("button", { type: "button", "data-sort": name, onclick: press }, name, order === "ascending" ? " ↑" : order === "descending" ? " ↓" : ""));
  };
  const body = rows.map((row) => h("tr", { "data-row": true, "data-key": `${row.group.uid}/${row.session}` },
    h("td", { class: "number" }, row.group.step), h("td", {}, row.group.split),
    h("td", { class: "question" }, h("a", { href: rowAddress(row), title: row.group.query.slice(0, 400) }, row.group.query.slice(0, 200))),
    h("td", { class: "muted" }, row.group.source), h("td", {}, outcomeMark(row)), h("td", { class: "number" }, rewardMark(row.reward)), h("td", {}, advantageMark(row.advantage)),
    h("td", { class: "number" }, row.turns), h("td", { class: "tools" }, inShort(row.tools)), h("td", { class: "number" }, row.tokens),
    h("td", { class: "number" }, seconds(row.seconds.at(-1))),
    h("td", {}, h("a", { href: groupAddress(row.group), "aria-label": "the group of this trajectory" }, "group"))));
  return h("div", { class: "scroll", tabindex: 0 }, h("table", { class: "rows" }, h("caption", { class: "unseen" }, "Trajectories"),
    h("thead", {}, h("tr", {}, HEADS.map(head), h("th", { scope: "col" }, h("span", { class: "unseen" }, "group")))), h("tbody", {}, body)));
}

/** "a ×2 · b": calls in order, repeats counted. */
function inShort(tools) {
  const runs = [];
  for (const tool of tools) {
    if (runs.at(-1)?.tool === tool) runs.at(-1).times += 1;
    else runs.push({ tool, times: 1 });
  }
  return runs.map(({ tool, times }) => (times > 1 ? `${tool} ×${times}` : tool)).join(" · ");
}

function pager(count, page, change) {
  const last = Math.ceil(count / PAGE_ROWS) - 1;
  if (last < 1) return "";
  const go = (to, text) => h("button", { type: "button", disabled: to < 0 || to > last, onclick: () => change("page", to, true) }, text);
  return h("nav", { class: "pager", "aria-label": "Pages" }, go(page - 1, "← Previous page"), `${page + 1} of ${last + 1}`, go(page + 1, "Next page →"));
}
