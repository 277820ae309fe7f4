// The page of a group: the trajectories of one prompt, side by side.
import { Missing, address, detailsOf, findGroup, store } from "./data.js";
import { deviation, figure, h, mean } from "./dom.js";
import { columns, field, text } from "./parts.js";

export async function groupPage({ parts }) {
  const group = findGroup(parts);
  if (!group) throw new Missing("there is no such group");
  const rewards = group.members.map((row) => row.reward).filter((reward) => reward !== null);
  return [
    trail(group), h("h1", { class: "question" }, group.query),
    h("dl", { class: "facts panel" }, field("Truth", text(group.truth, "strong")), field("Trajectories", figure(group.members.length)),
      field("Mean reward", figure(mean(rewards), 3)), field("Standard deviation", figure(deviation(rewards), 3)), field("Data source", group.source)),
    group.split === "train" && new Set(rewards).size === 1 && h("p", { class: "note" }, "All rewards are equal: every advantage is 0."),
    columns(group.members, await detailsOf(group))];
}

/** Where a group is: run, split, step. */
export function trail(group, ...more) {
  const { run, split, step } = group;
  return h("nav", { class: "trail", "aria-label": "Place" },
    h("a", { href: address("run", [run]) }, store.runs[run].name), h("a", { href: address("list", [], { run, split, from: step, to: step }) }, `${split}, step ${step}`), more);
}
