// The page of a trajectory: every turn's plan, call, result, verdict and memory, its tokens, and when it all happened.
import { Missing, detailsOf, findGroup, groupLink, rowAddress, store } from "./data.js";
import { figure, h, seconds, table } from "./dom.js";
import { trail } from "./group.js";
import { advantageMark, answerMark, argumentsOf, field, outcomeMark, resultMark, rewardMark, text, verdictMark } from "./parts.js";
import { timeline } from "./timeline.js";
import { folded, tokenStrip } from "./tokens.js";

export async function trajectoryPage({ parts }) {
  const group = findGroup(parts);
  const place = group ? group.members.findIndex((row) => row.session === +parts[4]) : -1;
  if (place < 0) throw new Missing("there is no such trajectory");
  const row = group.members[place];
  const detail = (await detailsOf(group))[place];
  const prompts = promptsByReply(detail);
  const scored = group.split === "train" && row.reward !== null; // not scored: left out of the loss
  // The log has the planner's tokens always, and those of other modules where they are trained.
  const trains = (module) => scored && (module !== "planner" || store.runs[group.run].trains_planner);
  const strip = (module, tokens) => moduleTokens(module, tokens, detail.pieces, trains(module), row.advantage);
  const ofReplies = (replies) => replies.map((reply) => reply.tokens && strip(reply.module, reply.tokens));
  const analysts = detail.replies.filter((reply) => reply.module === "analyst");
  const others = detail.replies.filter((reply) => reply.module !== "analyst");
  return [
    h("div", { class: "head" }, trail(group, groupLink(group, `group of ${group.members.length}`), h("span", {}, `trajectory ${row.session}`)), neighbours(group, place)),
    h("h1", { class: "question" }, group.query),
    h("dl", { class: "facts panel" },
      field("Outcome", outcomeMark(row)), field("Reward", rewardMark(row.reward)), field("Advantage", advantageMark(row.advantage)),
      field("Answer", answerMark(row)), field("Truth", text(group.truth, "strong")),
      field("Turns", figure(row.turns)), field("Planner tokens", figure(row.tokens)), field("Time", seconds(row.seconds.at(-1)))),
    detail.error && h("p", { class: "note bad" }, detail.error),
    timeline(detail, row.seconds.at(-1), withTokens(detail)),
    detail.analysis && h("section", { class: "panel" }, h("h2", {}, "Analysis"), text(detail.analysis), ofReplies(analysts)),
    detail.turns.map((turn) => turnPanel(turn, [turn.tokens && strip("planner", turn.tokens), ofReplies(turn.replies)], prompts)),
    h("section", { class: "panel answer" }, h("h2", {}, "Answer"), row.answer ? text(row.answer, "strong") : h("p", { class: "muted" }, "none"),
      detail.error && h("p", { class: "note bad" }, detail.error),
      detail.scores.length > 0 && h("dl", { class: "facts" }, detail.scores.map(([name, value]) => field(name, value))), ofReplies(others), replies(detail.replies, prompts))];
}

function neighbours(group, place) {
  const link = (at, label, key) => {
    const row = group.members[at];
    return row ? h("a", { href: rowAddress(row), class: "button", "data-key": key }, label) : h("span", { class: "button off" }, label);
  };
  return h("nav", { class: "chips", "aria-label": "Trajectories of the group" }, link(place - 1, "← previous", "["), link(place + 1, "next →", "]"));
}

/** Each model call's prompt, in the order of the calls: the analyst, the turns, the generator. */
function promptsByReply(detail) {
  const first = detail.replies.filter((reply) => reply.module === "analyst");
  const last = detail.replies.filter((reply) => reply.module !== "analyst");
  const order = [...first, ...detail.turns.flatMap((turn) => turn.replies), ...last];
  return new Map(order.map((reply, place) => [reply, detail.prompts[place]]));
}

/** Whether the log has tokens of a module: the planner's, and those of other trained modules. */
function withTokens(detail) {
  const made = [...detail.replies, ...detail.turns.flatMap((turn) => turn.replies)];
  const modules = new Set(["planner", ...made.filter((reply) => reply.tokens).map((reply) => reply.module)]);
  return (part) => modules.has(part);
}

/** The tokens of one module's reply, marked as that module's. */
function moduleTokens(module, tokens, pieces, trained, advantage) {
  return h("section", { class: "module-tokens", "data-module": module },
    h("h3", {}, `${module[0].toUpperCase()}${module.slice(1)} tokens`), tokenStrip(tokens, pieces, trained, advantage));
}

function turnPanel(turn, tokens, prompts) {
  const { plan, call, result, verdict } = turn;
  const missing = (what) => h("p", { class: "muted" }, `no ${what}`);
  return h("section", { class: "panel turn", "data-turn": turn.index },
    h("h2", {}, `Turn ${turn.index + 1}`, plan && h("span", { class: "tool" }, plan.tool)),
    turn.error && h("p", { class: "note bad" }, turn.error),
    h("div", { class: "steps" },
      step("Plan", plan ? h("dl", {}, field("Sub-goal", text(plan.sub_goal, "strong")), field("Context", text(plan.context)), field("Justification", text(plan.justification))) : missing("plan could be read")),
      step("Call", call ? [h("div", { class: "tool" }, call.tool), argumentsOf(call)] : missing("call")),
      step("Result", result ? [resultMark(result), text(result.text, "code"), h("p", { class: "muted small" }, seconds(result.seconds))] : missing("result")),
      step("Verdict", verdict ? [verdictMark(verdict), text(verdict.analysis)] : missing("verdict"))),
    h("details", { open: true }, h("summary", {}, "Added to memory"), text(turn.memory, "code memory")),
    tokens,
    replies(turn.replies, prompts));
}

function step(title, ...content) {
  return h("div", { class: `step ${title.toLowerCase()}` }, h("h3", {}, title), content);
}

function replies(made, prompts) {
  const figures = (reply) => [reply.module, reply.engine, reply.prompt_tokens, reply.cached_tokens ?? "–", reply.response_tokens, seconds(reply.seconds), text(`${reply.text}${reply.cut ? " […cut]" : ""}`, "code")];
  return made.length > 0 && folded(`Model calls: ${made.map((reply) => reply.module).join(", ")}`, () => [
    h("div", { class: "scroll" }, table("Model calls", ["module", "engine", "prompt tokens", "cached", "reply tokens", "time", "reply"], made.map(figures), [2, 3, 4, 5])),
    promptsOf(made, prompts)]);
}

function promptsOf(made, prompts) {
  if (!made.some((reply) => prompts.get(reply))) return h("p", { class: "muted small" }, "The prompts cannot be rebuilt: the run's flow.json or its templates are not beside the log.");
  return made.filter((reply) => prompts.get(reply)).map((reply) => promptOf(reply, prompts.get(reply)));
}

function promptOf(reply, prompt) {
  return folded(`Prompt of the ${reply.module}`, () => [
    !prompt.exact && h("p", { class: "note" }, "Rebuilt from the record. It is not known to be what was sent: the record is older, or the templates or the code have changed since."),
    prompt.messages.map((message) => h("section", { class: "field" }, h("h4", {}, message.role), text(message.content, "code sent")))]);
}
