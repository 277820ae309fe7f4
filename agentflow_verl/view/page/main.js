// The frame around every page: navigation, addresses, theme, keys, and following a live run.
import { clearCharts } from "./charts.js";
import { comparePage, questionPage } from "./compare.js";
import { Missing, Stale, address, isLive, loadTable, readAddress, store } from "./data.js";
import { h } from "./dom.js";
import { groupPage } from "./group.js";
import { listPage } from "./list.js";
import { runPage } from "./run.js";
import { trajectoryPage } from "./trajectory.js";

const PAGES = { run: runPage, list: listPage, group: groupPage, trajectory: trajectoryPage, compare: comparePage, question: questionPage };
const FOLLOWING = ["run", "list", "compare"]; // pages that change while a run writes
const TABS = [["run", "Run", ["run"]], ["list", "Trajectories", ["list", "group", "trajectory"]], ["compare", "Compare", ["compare", "question"]]];
const KEYS = [["1 2 3", "run, trajectories, compare"], ["/", "search"], ["j k", "next and previous row"], ["Enter", "open"], ["[ ]", "previous and next trajectory of the group"],
  ["← →", "values of a chart, tokens of a reply"], ["t", "dark or light"], ["?", "these keys"]];
const FOLLOW_MS = 3000;

const main = h("main", { id: "main", tabindex: -1 });
const tabs = h("nav", { class: "tabs", "aria-label": "Pages" });
const status = h("span", { class: "muted", role: "status" });
const help = h("dialog", { "aria-label": "Keys" }, h("h2", {}, "Keys"), h("dl", { class: "keys" }, KEYS.map(([key, what]) => [h("dt", {}, h("kbd", {}, key)), h("dd", {}, what)])),
  h("form", { method: "dialog" }, h("button", {}, "Close")));
let shown = 0;

async function show(keepPlace = false) {
  const turn = ++shown;
  const asked = readAddress();
  const name = PAGES[asked.page] ? asked.page : "run";
  let content;
  try {
    content = await PAGES[name](asked);
  } catch (error) {
    if (error instanceof Stale) return loadTable().then(() => show(keepPlace));
    if (!(error instanceof Missing)) console.error(error);
    content = [h("h1", {}, error instanceof Missing ? "Not found" : "This page could not be shown"), h("p", { class: "note bad" }, error.message)];
  }
  if (turn !== shown) return;
  const place = window.scrollY;
  clearCharts();
  main.dataset.page = name;
  main.replaceChildren(...content.filter(Boolean).flat(Infinity).filter(Boolean));
  tabs.replaceChildren(...TABS.map(([page, label, pages]) => h("a", { href: address(page, page === "run" ? [0] : []), "aria-current": pages.includes(name) ? "page" : undefined }, label)));
  document.title = `${main.querySelector("h1")?.textContent ?? "agentflow"} · agentflow`;
  window.scrollTo(0, keepPlace ? place : 0);
  if (!keepPlace && document.activeElement === document.body) main.focus({ preventScroll: true });
}

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  try {
    localStorage.setItem("agentflow-theme", theme);
  } catch {} // a page from disk may have no storage
}

function switchTheme() {
  const dark = getComputedStyle(document.documentElement).colorScheme === "dark";
  setTheme(dark ? "light" : "dark");
  show(true);
}

function step(by) {
  const rows = [...main.querySelectorAll("[data-row]")];
  if (!rows.length) return;
  const at = rows.findIndex((row) => row.contains(document.activeElement));
  const next = at < 0 ? (by > 0 ? 0 : rows.length - 1) : Math.min(rows.length - 1, Math.max(0, at + by));
  rows[next].querySelector("a").focus();
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, select, textarea")) return;
  const tab = TABS[+event.key - 1];
  const acts = {
    "/": () => document.getElementById("search")?.focus() ?? ((location.hash = "#/list"), setTimeout(() => document.getElementById("search")?.focus(), 50)),
    j: () => step(1), k: () => step(-1), t: switchTheme, "?": () => help.showModal(),
    "[": () => main.querySelector('[data-key="["]')?.click(), "]": () => main.querySelector('[data-key="]"]')?.click(),
  };
  const act = tab ? () => (location.hash = address(tab[0], tab[0] === "run" ? [0] : [])) : Object.hasOwn(acts, event.key) ? acts[event.key] : null;
  if (!act) return;
  event.preventDefault();
  act();
}

async function follow() {
  try {
    if ((await loadTable()) && FOLLOWING.includes(main.dataset.page) && !main.querySelector("form :focus")) await show(true);
    status.textContent = `following · ${store.trajectories.length} trajectories`;
  } catch {
    status.textContent = "the server does not answer";
  }
  setTimeout(follow, FOLLOW_MS);
}

async function start() {
  try {
    const theme = localStorage.getItem("agentflow-theme");
    if (theme === "dark" || theme === "light") document.documentElement.dataset.theme = theme;
  } catch {}
  document.getElementById("app").append(
    h("a", { href: "#main", class: "skip", onclick: (event) => (event.preventDefault(), main.focus()) }, "To the content"),
    h("header", { class: "bar" }, h("strong", {}, "agentflow"), tabs, status, h("button", { type: "button", class: "plain", onclick: switchTheme }, "Theme"),
      h("button", { type: "button", class: "plain", onclick: () => help.showModal() }, "Keys")), main, help);
  await loadTable();
  await show();
  window.addEventListener("hashchange", () => show());
  window.addEventListener("keydown", onKey);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => show(true));
  if (isLive()) setTimeout(follow, FOLLOW_MS);
}

start();
