// The form of a correction, by the kind of answer: its parts, what has the focus first, and what is sent of it.

import { Trouble } from "./server.js";
import { draw, make, selectable, tag, words } from "./text.js";

const HOW = "Select the right words in the text: with the mouse, or with Shift and the arrow keys.";

function needed(value, message) {
  if (value === "") throw new Trouble(message);
  return value;
}

function choiceOf(labels, title) {
  const options = labels.map((name) => make("option", { value: name, textContent: name }));
  const blank = make("option", { value: "", textContent: "Choose …" });
  const choice = make("select", { id: "right-label" }, blank, ...options);
  return [choice, make("div", {}, make("label", { htmlFor: choice.id, textContent: title }), choice)];
}

function one(found, text, labels) {
  const [choice, part] = choiceOf(labels, "Right label");
  const value = () => ({ label: needed(choice.value, "Choose the right label first.") });
  return { parts: [part], first: choice, value };
}

function several(found, text, labels) {
  const box = (name) => make("input", { type: "checkbox", value: name, checked: found.label.includes(name) });
  const boxes = labels.map(box);
  const choices = make("div", { className: "choices" }, ...boxes.map((each) => make("label", {}, each, each.value)));
  const part = make("fieldset", {}, make("legend", { textContent: "Right labels; none is an answer, too" }), choices);
  const value = () => ({ labels: boxes.filter((each) => each.checked).map((each) => each.value) });
  return { parts: [part], first: boxes[0], value };
}

function number() {
  const box = make("input", { id: "right-value", type: "number", step: "any" });
  const part = make("div", {}, make("label", { htmlFor: box.id, textContent: "Right value" }), box);
  const value = () => ({ value: Number(needed(box.value, "Give the right value first.")) });
  return { parts: [part], first: box, value };
}

function answers(found, text, labels) {
  let chosen = found.answer ? { start: found.start, end: found.end } : null;
  const said = make("p", { dir: "auto", role: "status" });
  const tell = () => {
    said.textContent = chosen ? `Right answer: ${words(text, chosen)}` : "Right answer: none in this text.";
  };
  const take = (span) => {
    chosen = span;
    tell();
  };
  const place = selectable(text, "Text: select the right answer", (span) => span && take(span));
  const none = make("button", { type: "button", textContent: "No answer in this text", onclick: () => take(null) });
  draw(place, text, [], labels);
  tell();
  const hint = make("p", { className: "hint", textContent: HOW });
  const value = () => (chosen ? { answer: words(text, chosen), start: chosen.start } : { answer: null });
  return { parts: [hint, place, said, none], first: place, value };
}

function spans(found, text, labels) {
  let kept = found.spans.map(({ start, end, label }) => ({ start, end, label }));
  let selected = null;
  const said = make("p", { dir: "auto", role: "status" });
  const tell = (message) => {
    said.textContent = message;
  };
  const place = selectable(text, "Text: select words to mark", (span) => {
    selected = span;
    tell(span ? `Selected: ${words(text, span)}` : "Nothing is selected.");
  });
  const list = make("ul", { className: "listed" });
  const [choice, part] = choiceOf(labels, "Their label");
  const change = (now) => {
    kept = now.sort((a, b) => a.start - b.start);
    selected = null;
    draw(place, text, kept, labels);
    list.replaceChildren(...kept.map(row));
    place.focus();
  };
  const row = (span) => {
    const aria = { label: `Remove ${span.label}: ${words(text, span)}` };
    const onclick = () => change(kept.filter((each) => each !== span));
    const remove = make("button", { type: "button", textContent: "Remove", aria, onclick });
    return make("li", {}, make("span", { dir: "auto" }, words(text, span), " ", tag(labels, span.label)), remove);
  };
  const mark = make("button", { type: "button", textContent: "Mark them" });
  mark.onclick = () => {
    if (!selected || !choice.value) {
      tell(selected ? "Choose the label of the words first." : "Select words in the text first.");
      return;
    }
    const { start, end } = selected;
    const apart = kept.filter((each) => each.end <= start || each.start >= end);
    change([...apart, { start, end, label: choice.value }]);
    tell(`Marked: ${words(text, { start, end })}`);
  };
  draw(place, text, kept, labels);
  list.replaceChildren(...kept.map(row));
  const hint = make("p", { className: "hint", textContent: `${HOW} Then choose their label, and mark them.` });
  const tools = make("div", { className: "row" }, part, mark);
  return { parts: [hint, place, said, tools, list], first: place, value: () => ({ spans: kept }) };
}

export const RIGHT = { one, several, number, answers, spans };
