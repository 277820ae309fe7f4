// The table of all trajectories, the chunks behind it, and the addresses of pages.
import { h } from "./dom.js";

const KEPT_CHUNKS = 24;
const chunks = new Map();
export const store = { runs: [], groups: [], trajectories: [], outcomes: [], parts: [], tools: [], sources: [], version: null };

/** What an address names is not here. */
export class Missing extends Error {}

/** The server has a newer table than this page. */
export class Stale extends Error {}

export const isLive = () => document.getElementById("index") === null;

async function inflate(bytes) {
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).json();
}

function embedded(name) {
  return Uint8Array.from(atob(document.getElementById(name).textContent), (letter) => letter.charCodeAt(0));
}

/** Read the table. Whether it is new: a server says when it is not. */
export async function loadTable() {
  let bytes;
  let version = "0";
  if (isLive()) {
    const answer = await fetch(`/index?have=${store.version ?? ""}`);
    if (answer.status === 204) return false;
    bytes = await answer.arrayBuffer();
    version = answer.headers.get("X-Version");
  } else {
    bytes = embedded("index");
  }
  const table = await inflate(bytes);
  chunks.clear();
  Object.assign(store, { ...table, version, groups: rows(table.groups), trajectories: rows(table.trajectories) });
  for (const group of store.groups) group.members = [];
  for (const row of store.trajectories) {
    row.group = store.groups[row.group];
    row.outcome = store.outcomes[row.outcome];
    row.group.members.push(row);
  }
  store.tools = distinct(store.trajectories.flatMap((row) => row.tools));
  store.sources = distinct(store.groups.map((group) => group.source));
  return true;
}

function rows(columns) {
  const names = Object.keys(columns);
  const count = names.length ? columns[names[0]].length : 0;
  return Array.from({ length: count }, (_, row) => Object.fromEntries(names.map((name) => [name, columns[name][row]])));
}

export function distinct(values) {
  return [...new Set(values)].sort((a, b) => (typeof a === "number" ? a - b : String(a).localeCompare(String(b))));
}

/** Everything of a group's trajectories, in the order of its members. */
export async function detailsOf(group) {
  const chunk = await loadChunk(group.chunk);
  const details = chunk.trajectories.slice(group.place, group.place + group.members.length);
  return details.map((detail) => ({ ...detail, pieces: chunk.pieces }));
}

async function loadChunk(number) {
  if (!chunks.has(number)) {
    const reading = readChunk(number);
    reading.catch(() => chunks.delete(number));
    chunks.set(number, reading);
    if (chunks.size > KEPT_CHUNKS) chunks.delete(chunks.keys().next().value);
  }
  return chunks.get(number);
}

async function readChunk(number) {
  let bytes;
  if (isLive()) {
    const answer = await fetch(`/chunk?version=${store.version}&number=${number}`);
    if (answer.status === 410) throw new Stale();
    if (!answer.ok) throw new Error(`the server said ${answer.status}`);
    bytes = await answer.arrayBuffer();
  } else {
    if (document.readyState === "loading") await new Promise((done) => document.addEventListener("DOMContentLoaded", done));
    bytes = embedded(`chunk-${number}`);
  }
  const chunk = await inflate(bytes);
  const last = {}; // each module's last prompt, of which the next is a difference
  const restore = (module, tokens) => {
    if (tokens === null) return;
    const [head, middle, tail] = tokens.prompt;
    const before = last[module] ?? [];
    last[module] = tokens.prompt = [...before.slice(0, head), ...middle, ...before.slice(before.length - tail)];
  };
  for (const { turns, replies } of chunk.trajectories) {
    for (const turn of turns) {
      restore("planner", turn.tokens);
      for (const reply of turn.replies) restore(reply.module, reply.tokens);
    }
    for (const reply of replies) restore(reply.module, reply.tokens);
  }
  return chunk;
}

/** Members of every group whose text, anywhere in their records, has `wanted`. */
export async function searchEverything(groups, wanted, stillWanted) {
  const found = new Set();
  for (const group of groups) {
    const details = await detailsOf(group);
    if (!stillWanted()) return found;
    details.forEach(({ turns, analysis, replies }, place) => {
      if (texts([turns, analysis, replies]).some((text) => text.toLowerCase().includes(wanted))) found.add(group.members[place]);
    });
  }
  return found;
}

function texts(value) {
  if (typeof value === "string") return [value];
  return value !== null && typeof value === "object" ? Object.values(value).flatMap(texts) : [];
}

// ---- addresses ----

export function address(page, parts = [], query = {}) {
  const asked = new URLSearchParams(Object.entries(query).filter(([, value]) => value !== "" && value !== null && value !== undefined));
  const path = [page, ...parts].map((part) => encodeURIComponent(part)).join("/");
  return `#/${path}${asked.size ? `?${asked}` : ""}`;
}

export function readAddress() {
  const [path, query] = location.hash.replace(/^#\/?/, "").split("?", 2);
  const [page, ...parts] = path.split("/").map(decodeURIComponent);
  return { page, parts, query: Object.fromEntries(new URLSearchParams(query ?? "")) };
}

export const groupParts = (group) => [group.run, group.split, group.step, group.uid];
export const groupAddress = (group) => address("group", groupParts(group));
export const rowAddress = (row) => address("trajectory", [...groupParts(row.group), row.session]);

export function findGroup([run, split, step, uid]) {
  return store.groups.find((group) => group.uid === uid && group.split === split && group.run === +run && group.step === +step);
}

export function groupLink(group, text) {
  return h("a", { href: groupAddress(group) }, text);
}
