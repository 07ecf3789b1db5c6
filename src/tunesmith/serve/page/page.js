// The page of a served model: a text and its answer, what is right instead, a file.

import { SHOWN, bar, kindOf } from "./answer.js";
import { RIGHT } from "./right.js";
import { Trouble, call, capital, hasKey, post, useKey } from "./server.js";
import { draw, make } from "./text.js";

const $ = (id) => document.getElementById(id);

// What is entered, by the form of an input: name, title, rows.
const FIELDS = {
  text: [["text", "Text", 6]],
  pair: [["text", "First text", 4], ["text_pair", "Second text", 4]],
  question: [["question", "Question", 2], ["context", "Text with the answer", 8]],
};
// Endings of files that are taken: their type, and the ending of what comes back.
const TABLES = {
  csv: ["text/csv", "csv"],
  tsv: ["text/tab-separated-values", "tsv"],
  jsonl: ["application/x-ndjson", "jsonl"],
  ndjson: ["application/x-ndjson", "jsonl"],
};
const COLUMNS = ["text", "text_pair"]; // as the server calls those of the first and of the second text
const FEW = 6;

let info = {};
let asked = { item: "", found: null }; // the answer that is shown, and to what
let right = null; // the form of a correction, one of `RIGHT`
let sending = null; // stops the file that is under way

function show(id, shown = true) {
  $(id).hidden = !shown;
}

function say(id, message) {
  $(id).textContent = message;
}

function sized(bytes) {
  return bytes < 2 ** 20 ? `${Math.ceil(bytes / 2 ** 10)} KiB` : `${Math.ceil((10 * bytes) / 2 ** 20) / 10} MiB`;
}

function save(blob, name) {
  const link = make("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

/** Let a form do its work when it is sent: once at a time, and what goes wrong is said below it. */
function whenSent(id, words, action) {
  const form = $(id);
  const button = form.querySelector("button[type=submit]");
  const usual = button.textContent;
  const busy = (is) => {
    button.ariaDisabled = form.ariaBusy = String(is);
    button.textContent = is ? words : usual;
  };
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (button.ariaDisabled === "true") return;
    busy(true);
    say(`${id}-trouble`, "");
    try {
      await action();
    } catch (error) {
      tellTrouble(`${id}-trouble`, error);
    }
    busy(false);
  });
}

function tellTrouble(id, error) {
  if (!(error instanceof Trouble)) throw error;
  if (error.status === 401) lock();
  else say(id, error.message);
}

// ---- The beginning, with a key where one is needed

function lock() {
  const wrong = hasKey();
  useKey("");
  for (const id of ["house", "nav"]) show(id, false);
  show("door");
  say("state", "");
  say("name", "A key is needed");
  $("key").value = "";
  $("key").focus();
  say("door-trouble", wrong ? "This key is not known here." : "");
}

function field(tag, id, title, properties) {
  return make("div", {}, make("label", { htmlFor: id, textContent: title }), make(tag, { id, ...properties }));
}

function makeFields() {
  const fields = FIELDS[info.input];
  const area = { dir: "auto", spellcheck: false, required: true };
  const column = { autocomplete: "off", spellcheck: false, placeholder: "found by its name" };
  $("fields").replaceChildren(
    ...fields.map(([name, title, rows]) => field("textarea", name, title, { rows, ...area })),
  );
  $("columns").replaceChildren(
    ...fields.map(([name, title]) => field("input", `column-${name}`, `Column: ${title.toLowerCase()}`, column)),
  );
}

async function begin() {
  const found = await (await call("info")).json();
  if (!found.task) throw new Trouble("A key is needed.", 401);
  info = found;
  const { tokens, long, file_bytes: most } = info.limits;
  const labels = info.labels.length ? [`${info.labels.length} labels`] : [];
  $("name").textContent = document.title = info.name;
  $("facts").textContent = capital([info.title, ...labels, info.precision].join(" · "));
  $("reads").textContent = long === "windows"
    ? `A long text is read in windows of ${tokens} tokens.` : `Of a long text the first ${tokens} tokens are read.`;
  $("most").textContent = sized(most);
  $("footer").textContent = `Served by Tunesmith ${info.version}. What you enter goes to this server and nowhere else.`;
  $("report").textContent = info.key_needed ? "Download the report" : "Report";
  if (!$("fields").children.length) makeFields(); // else they hold what was entered before a key was asked for
  show("narrowing", info.narrowed_by.includes("threshold"));
  show("report", info.report);
  for (const id of ["house", "nav"]) show(id);
  show("door", false);
  say("state", "");
}

whenSent("door", "Asking …", async () => {
  useKey($("key").value.trim());
  await begin();
  $("fields").querySelector("textarea").focus();
});

$("report").addEventListener("click", async (event) => {
  if (!hasKey()) return; // a link sends no key
  event.preventDefault();
  try {
    save(await (await call("report")).blob(), "report.html");
  } catch (error) {
    tellTrouble("state-trouble", error);
  }
});

// ---- A text and its answer

function entered() {
  if (info.input === "text") return $("text").value;
  return Object.fromEntries(FIELDS[info.input].map(([name]) => [name, $(name).value]));
}

whenSent("ask", "Predicting …", async () => {
  const threshold = Number($("threshold").value);
  const item = entered();
  const found = await (await post("predict", { input: item, ...(threshold && { threshold }) })).json();
  asked = { item, text: item.context ?? item, found };
  tell(found);
});

$("ask").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) $("ask").requestSubmit();
});
$("threshold").addEventListener("input", () => {
  const value = Number($("threshold").value);
  $("threshold-value").textContent = value ? value.toFixed(2) : "off";
});
$("threshold").addEventListener("change", () => {
  if (asked.found) $("ask").requestSubmit();
});

function tell(found) {
  const { what, said, none, more, bars, marks } = SHOWN[kindOf(found)](found);
  $("said-what").textContent = what;
  $("said").textContent = said || none;
  $("said").className = ["said", said ? "" : "none", said?.length > 60 ? "long" : ""].join(" ");
  $("said-more").textContent = more;
  $("heard").textContent = `${what}: ${said || none}. ${more}`;
  show("marked", marks !== undefined);
  if (marks) draw($("marked"), asked.text, marks, info.labels);
  list(bars, FEW);
  show("nothing", false);
  show("result");
  show("wrong", info.corrections);
  say("kept", "");
  leave();
}

function list(bars, most) {
  $("bars").replaceChildren(...bars.slice(0, most).map((each) => bar(each, info.labels)));
  show("all", bars.length > most);
  $("all").textContent = `Show all ${bars.length}`;
  $("all").onclick = () => {
    list(bars, bars.length);
    $("bars").focus();
  };
}

// ---- What is right instead

function leave() {
  show("correction", false);
  $("wrong").ariaExpanded = "false";
}

$("wrong").addEventListener("click", () => {
  right = RIGHT[kindOf(asked.found)](asked.found, asked.text, info.labels);
  $("right").replaceChildren(...right.parts);
  say("correction-trouble", "");
  show("correction");
  $("wrong").ariaExpanded = "true";
  right.first.focus();
});
$("leave").addEventListener("click", () => {
  leave();
  $("wrong").focus();
});

whenSent("correction", "Sending …", async () => {
  await post("corrections", { input: asked.item, ...right.value() });
  leave();
  show("wrong", false);
  say("kept", "Kept, for the next training.");
  $("fields").querySelector("textarea").focus();
});

// ---- A file

for (const kind of ["dragover", "drop"]) window.addEventListener(kind, (event) => event.preventDefault());
for (const kind of ["dragover", "dragleave", "drop"]) {
  $("drop").addEventListener(kind, () => $("drop").classList.toggle("over", kind === "dragover"));
}
$("drop").addEventListener("drop", (event) => {
  if (event.dataTransfer.files.length) $("chosen").files = event.dataTransfer.files;
});

function table() {
  const [file] = $("chosen").files;
  const pasted = $("pasted").value;
  if (file && pasted) throw new Trouble("There are a file and a pasted table; take one of them away.");
  if (!file && !pasted) throw new Trouble("Choose a file, or paste a table first.");
  const found = file ?? new File([pasted], "pasted.csv");
  const most = info.limits.file_bytes;
  if (found.size > most) throw new Trouble(`The file has ${sized(found.size)}; the most is ${sized(most)}. Divide it.`);
  return found;
}

whenSent("table", "Predicting …", async () => {
  const file = table();
  const [, stem, ending] = /^(.*?)(?:\.([^.]*))?$/s.exec(file.name);
  const [type, written] = TABLES[ending?.toLowerCase()] ?? TABLES.csv;
  const columns = FIELDS[info.input].map(([name], at) => [COLUMNS[at], $(`column-${name}`).value.trim()]);
  const given = new URLSearchParams(columns.filter(([, column]) => column));
  const name = `${stem}-predictions.${written}`;
  sending = new AbortController();
  const options = { method: "POST", body: file, headers: { "content-type": type }, signal: sending.signal };
  show("stop");
  say("progress", `Sending ${sized(file.size)}; the predictions will follow …`);
  try {
    const found = await received(await call(`predict/file?${given}`, options));
    save(found, name);
    say("progress", `Done: ${name} (${sized(found.size)}) is among your downloads.`);
  } catch (error) {
    say("progress", "");
    throw error;
  } finally {
    show("stop", false);
  }
});
$("stop").addEventListener("click", () => sending.abort());

async function received(reply) {
  const parts = [];
  let bytes = 0;
  try {
    const reader = reply.body.getReader();
    for (let part = await reader.read(); !part.done; part = await reader.read()) {
      parts.push(part.value);
      bytes += part.value.length;
      say("progress", `Received ${sized(bytes)} of predictions …`);
    }
  } catch {
    throw new Trouble(sending.signal.aborted ? "Stopped." : "The answer broke off; a part of it is not kept.");
  }
  return new Blob(parts);
}

begin().catch((error) => {
  say("state", "");
  tellTrouble("state-trouble", error);
});
