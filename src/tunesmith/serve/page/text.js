// Texts, and what is marked in them. They are put into text nodes alone, never read as HTML. The server counts
// characters as code points, strings here as UTF-16: `starts` and `points` are where one becomes the other.

const COLOURS = 6;

/** An element; `data` and `aria` hold attributes of these families. */
export function make(name, properties = {}, ...children) {
  const { data = {}, aria = {}, ...plain } = properties;
  const made = Object.assign(document.createElement(name), plain);
  Object.assign(made.dataset, data);
  for (const [what, value] of Object.entries(aria)) made.setAttribute(`aria-${what}`, value);
  made.append(...children);
  return made;
}

/** Where each code point of a text starts in its string, and where the last one ends. */
function starts(text) {
  const found = [0];
  for (const character of text) found.push(found.at(-1) + character.length);
  return found;
}

/** How many code points stand before a place in a string. */
const points = (text, place) => [...text.slice(0, place)].length;

/** The words of a span, which counts code points. */
export function words(text, { start, end }) {
  const at = starts(text);
  return text.slice(at[start], at[end]);
}

/** The class of a label's colour; what has no label has the first. */
export const colour = (labels, label) => `k${Math.max(labels.indexOf(label), 0) % COLOURS}`;

/** A label as it stands beside words. */
export const tag = (labels, label) => make("span", { className: `tag ${colour(labels, label)}`, textContent: label });

/** Put a text into a place, with spans of it marked. */
export function draw(place, text, spans, labels) {
  const at = starts(text);
  const pieces = [];
  let here = 0;
  for (const { start, end, label } of [...spans].sort((one, other) => one.start - other.start)) {
    if (start < here) continue;
    const data = label === undefined ? {} : { label };
    const mark = make("mark", { className: colour(labels, label), data }, text.slice(at[start], at[end]));
    pieces.push(text.slice(at[here], at[start]), mark);
    here = end;
  }
  place.replaceChildren(...pieces, text.slice(at[here]));
}

/** A place for a text whose words can be selected, by mouse or by Shift and the arrows, but not changed.
 *  `selected` is called with the span, or with null where the selection is empty. */
export function selectable(text, name, selected) {
  const looks = { className: "marked", dir: "auto", role: "textbox", tabIndex: 0 };
  const editing = { contentEditable: "true", spellcheck: false, inputMode: "none" };
  const aria = { label: name, multiline: "true", readonly: "true" };
  const place = make("div", { ...looks, ...editing, aria });
  for (const kind of ["beforeinput", "paste", "cut", "drop"]) {
    place.addEventListener(kind, (event) => event.preventDefault());
  }
  const look = () => {
    if (!place.isConnected) {
      document.removeEventListener("selectionchange", look);
      return;
    }
    const selection = document.getSelection();
    const inside = place.contains(selection.anchorNode) && place.contains(selection.focusNode);
    if (!selection.rangeCount || !inside) return;
    const range = selection.getRangeAt(0);
    const before = document.createRange();
    before.setStart(place, 0);
    before.setEnd(range.startContainer, range.startOffset);
    const chosen = range.toString();
    const begin = before.toString().length + chosen.length - chosen.trimStart().length;
    const end = begin + chosen.trim().length;
    selected(chosen.trim() ? { start: points(text, begin), end: points(text, end) } : null);
  };
  document.addEventListener("selectionchange", look);
  return place;
}
