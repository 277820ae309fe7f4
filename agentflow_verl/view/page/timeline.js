// When each call of a trajectory ran: a lane a module, seconds since the trajectory began.
import { store } from "./data.js";
import { figure, h, seconds } from "./dom.js";

/** `ours`: whether a part's tokens are in the log, which those of trained modules are. */
export function timeline({ spans, recorded }, total, ours) {
  const end = Math.max(total, ...spans.map(({ start, seconds: length }) => start + length), 0.001);
  const lanes = store.parts.filter((part) => spans.some((span) => span.part === part));
  const share = (value) => `${(100 * value) / end}%`;
  const bar = ({ part, turn, start, seconds: length }) => {
    const name = `${part}${turn === null ? "" : `, turn ${turn + 1}`}: ${seconds(length)}, from ${seconds(start)}`;
    return h("span", { class: `span ${ours(part) ? "ours" : ""}`, role: "listitem", tabindex: 0, title: name, "aria-label": name, style: { left: share(start), width: share(length) } });
  };
  const lane = (part) => {
    const mine = spans.filter((span) => span.part === part);
    return [h("span", { class: "lane-name" }, part), h("div", { class: "lane", role: "list", "aria-label": part }, mine.map(bar)),
      h("span", { class: "lane-time" }, seconds(mine.reduce((sum, span) => sum + span.seconds, 0)))];
  };
  const ticks = [0, 0.25, 0.5, 0.75, 1].map((at) => h("span", { style: { left: share(at * end) } }, `${figure(at * end, end < 10 ? 2 : 0)} s`));
  return h("figure", { class: "panel timeline" }, h("figcaption", {}, "Timeline"),
    h("div", { class: "lanes" }, lanes.map(lane), h("span", {}), h("div", { class: "ticks", "aria-hidden": "true" }, ticks), h("span", { class: "lane-time strong" }, seconds(total))),
    !recorded && h("p", { class: "muted small" }, "This log is from before starts were recorded: calls are laid end to end, in the order they ran."));
}
