// A planner reply token by token: how likely each was, whether it was trained, and with which advantage.
import { figure, h, signed, table } from "./dom.js";

/** `trained`: the run's update had these tokens. `advantage` is that of the trajectory: every token has the same. */
export function tokenStrip({ prompt, response, logprobs, weights }, pieces, trained, advantage) {
  const piece = (id) => pieces[id] ?? `⟨${id}⟩`;
  const mask = trained ? 1 : 0;
  const rows = response.map((id, at) => ({ at, id, piece: piece(id), logprob: logprobs[at] ?? null, mask, advantage: trained ? advantage : null }));
  const readout = h("p", { class: "readout", "aria-live": "polite" });
  const show = (at) => {
    const { id, piece: shown, logprob } = rows[at];
    const parts = [["token", at + 1], ["id", id], ["log-probability", figure(logprob, 4)], ["probability", figure(logprob === null ? null : Math.exp(logprob), 4)], ["mask", mask], ["advantage", signed(rows[at].advantage)]];
    readout.replaceChildren(h("code", {}, visible(shown)), ...parts.map(([name, value]) => h("span", {}, `${name} `, h("b", {}, value))));
  };
  const marks = rows.map(({ at, piece: shown, logprob }) => h("span", {
    class: "token", "data-at": at, tabindex: at ? -1 : 0, onfocus: () => show(at), onmouseenter: () => show(at), style: { "--heat": heat(logprob) },
  }, visible(shown)));
  const strip = h("div", { class: "tokens", role: "group", "aria-label": "Tokens; arrow keys move", onkeydown: (event) => walk(event, marks) }, lines(marks, rows));
  if (rows.length) show(0);
  return [
    strip, readout,
    h("p", { class: "muted small" }, `The darker a token, the less likely it was. ${weightsNote(weights)} ${trained ? "Trained." : "Not trained: the mask is 0."}`),
    folded(`${response.length} tokens as a table`, () => table("Tokens", ["#", "id", "token", "log-probability", "mask", "advantage"],
      rows.map((row) => [row.at + 1, row.id, h("code", {}, visible(row.piece)), figure(row.logprob, 4), row.mask, signed(row.advantage)]), [0, 1, 3, 4, 5])),
    folded(`Prompt, ${prompt.length} tokens, mask 0`, () => h("div", { class: "text code prompt" }, prompt.map(piece).join("")))];
}

/** Contents that are made when they are opened. */
export function folded(title, make) {
  const details = h("details", { ontoggle: () => details.childElementCount > 1 || details.append(h("div", { class: "scroll", tabindex: 0 }, make())) }, h("summary", {}, title));
  return details;
}

function heat(logprob) {
  const surprise = typeof logprob === "number" ? Math.min(1, -logprob / 3) : 0;
  return `${Math.round(100 * Math.sqrt(Math.max(0, surprise)))}%`;
}

function visible(piece) {
  return piece.replaceAll("\n", "↵") || "∅";
}

function lines(marks, rows) {
  return marks.flatMap((mark, at) => (rows[at].piece.includes("\n") ? [mark, h("br")] : [mark]));
}

function walk(event, marks) {
  const at = marks.indexOf(document.activeElement);
  const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: marks.length - 1 }[event.key];
  if (at < 0 || !marks[to]) return;
  marks[at].tabIndex = -1;
  marks[to].tabIndex = 0;
  marks[to].focus();
  event.preventDefault();
}

function weightsNote([first, last]) {
  if (first === null) return "";
  return first === last ? `Sampled by weights of version ${first}.` : `Sampled by weights of versions ${first} to ${last}.`;
}
