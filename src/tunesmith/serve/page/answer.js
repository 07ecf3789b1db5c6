// An answer of the model as it is shown: what it is, in words, with scores as bars, and where it stands in the text.

import { make, tag } from "./text.js";

export const percent = (share) => `${(100 * share).toFixed(1)} %`;

/** What kind of answer this is, as the names of `SHOWN` here and of `RIGHT` beside it have them. */
export function kindOf(found) {
  if ("value" in found) return "number";
  if ("spans" in found) return "spans";
  if ("answers" in found) return "answers";
  return Array.isArray(found.label) ? "several" : "one";
}

const byShare = (bars) => bars.sort((one, other) => other.share - one.share);

function ranked(scores, picked) {
  return byShare(Object.entries(scores).map(([name, share]) => ({ name, share, picked: picked.includes(name) })));
}

function sureness({ abstained, score }) {
  return abstained ? `The best one is less sure than the threshold: ${percent(score)}.` : `Score ${percent(score)}`;
}

function answers(found) {
  const bars = found.answers.map(({ text, score }) => ({ name: text, share: score, picked: text === found.answer }));
  if ("no_answer" in found) bars.push({ name: "(no answer)", share: found.no_answer, picked: !found.answer });
  const marks = found.answer ? [{ start: found.start, end: found.end }] : [];
  return { what: "Answer", said: found.answer, none: "No answer", more: sureness(found), bars: byShare(bars), marks };
}

function spans(found) {
  const bars = found.spans.map(({ text, label, score }) => ({ name: text, label, share: score }));
  const count = bars.length;
  const said = count && `${count} ${count === 1 ? "entity" : "entities"}`;
  return { what: "Found in the text", said, none: "Nothing", more: "", bars, marks: found.spans };
}

/** What is shown of an answer; `none` stands where nothing is `said`, and `marks` are spans of the text. */
export const SHOWN = {
  one: (found) => {
    const bars = ranked(found.scores, [found.label]);
    return { what: "Label", said: found.label, none: "No label", more: sureness(found), bars };
  },
  several: (found) => {
    const bars = ranked(found.scores, found.label);
    return { what: "Labels", said: found.label.join(", "), none: "No label", more: "", bars };
  },
  number: (found) => ({ what: "Value", said: String(found.value), none: "", more: "", bars: [] }),
  spans,
  answers,
};

/** A bar of a score; entities have their label beside the words. */
export function bar({ name, label, share, picked }, labels) {
  const fill = make("i");
  fill.style.width = `${100 * share}%`;
  const words = make("span", { className: `name${picked ? " picked" : ""}`, dir: "auto" }, name);
  if (label !== undefined) words.append(" ", tag(labels, label));
  const meter = make("span", { className: "meter", aria: { hidden: "true" } }, fill);
  return make("li", {}, words, meter, make("span", { className: "share", textContent: percent(share) }));
}
