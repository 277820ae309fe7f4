// What several pages show: outcomes, rewards, advantages, one turn in brief, one trajectory as a column.
import { rowAddress } from "./data.js";
import { figure, h, seconds, signed, words } from "./dom.js";

const GOOD_REWARD = 1;

export function outcomeMark(row) {
  return h("span", { class: `outcome ${row.outcome}` }, words(row.outcome));
}

/** The answer; where a trajectory failed, its reason stands beside it. */
export function answerMark(row) {
  const answer = row.answer ? text(row.answer, "strong") : h("span", { class: "muted" }, "none");
  return [answer, row.error && h("div", { class: "bad reason" }, row.error)];
}

/** The outcome reward, with a sign that needs no colour. */
export function rewardMark(reward) {
  if (reward === null) return h("span", { class: "muted", title: "not scored" }, "not scored");
  const good = reward >= GOOD_REWARD;
  return h("span", { class: good ? "good" : "bad" }, good ? "✓ " : "✗ ", figure(reward));
}

/** The advantage as a bar from the middle. */
export function advantageMark(value, most = 2) {
  if (value === null) return h("span", { class: "muted" }, "–");
  const share = Math.min(1, Math.abs(value) / most) * 50;
  const bar = h("i", { style: { width: `${share}%`, [value < 0 ? "right" : "left"]: "50%" } });
  return h("span", { class: `advantage ${value < 0 ? "below" : "above"}` }, h("span", { class: "bar", "aria-hidden": "true" }, bar), h("b", {}, signed(value)));
}

export function field(label, ...content) {
  return h("div", { class: "field" }, h("dt", {}, label), h("dd", {}, content));
}

/** Text as it was written. */
export function text(content, name = "plain") {
  return h("div", { class: `text ${name}` }, content);
}

export function argumentsOf(call) {
  return call.arguments.map(([name, value]) => h("div", { class: "argument" }, h("span", { class: "muted" }, name), text(value, "code")));
}

export function resultMark(result) {
  return [result.is_error && h("span", { class: "tag bad" }, "error"), result.truncated && h("span", { class: "tag" }, "cut"),
    result.attempts > 1 && h("span", { class: "tag" }, `${result.attempts} attempts`)];
}

export function verdictMark(verdict) {
  return h("span", { class: "tag" }, verdict.parsed ? (verdict.stop ? "STOP" : "CONTINUE") : "unreadable: CONTINUE");
}

function turnInBrief(turn) {
  return h("section", { class: "turn brief" },
    h("h4", {}, `Turn ${turn.index + 1}`, turn.plan && h("span", { class: "tool" }, turn.plan.tool)),
    turn.plan && h("p", {}, turn.plan.sub_goal),
    turn.call && argumentsOf(turn.call),
    turn.result && h("div", { class: "result" }, resultMark(turn.result), text(turn.result.text, "short")),
    turn.error && h("p", { class: "bad" }, turn.error),
    turn.verdict && h("p", { class: "muted" }, verdictMark(turn.verdict), " ", turn.verdict.analysis));
}

/** One trajectory among others. */
export function column(row, detail, most) {
  return h("article", { class: "panel column", "data-row": true },
    h("header", {}, h("a", { href: rowAddress(row), class: "strong" }, `Trajectory ${row.session}`), outcomeMark(row)),
    h("dl", { class: "facts" }, field("Reward", rewardMark(row.reward)), field("Advantage", advantageMark(row.advantage, most)),
      field("Tokens", figure(row.tokens)), field("Time", seconds(row.seconds.at(-1)))),
    detail.turns.map(turnInBrief),
    h("section", { class: "answer" }, h("h4", {}, "Answer"), answerMark(row)));
}

export function columns(rows, details) {
  const most = Math.max(1, ...rows.map((row) => Math.abs(row.advantage ?? 0)));
  return h("div", { class: "columns", tabindex: 0, role: "region", "aria-label": "Trajectories side by side" },
    rows.map((row, position) => column(row, details[position], most)));
}
