"use strict";
// One entry is shown at a time; every decision is kept in this browser at once and in a file when asked.
const main = document.querySelector("main");
const entries = [...document.querySelectorAll("article.entry")];
const map = document.getElementById("map");
const reasons = [...document.querySelectorAll(".help li")]
  .filter((item) => /^[1-9]$/.test(item.querySelector("kbd").textContent))
  .map((item) => item.lastChild.textContent.trim());
const decisions = new Map();
let at = 0;

function store() {
  try {
    return window.localStorage;
  } catch (error) {
    warn("This browser keeps nothing for this page (" + error.name + "): save before closing it.");
    return null;
  }
}

function warn(text) {
  const place = document.getElementById("warning");
  place.textContent = text;
  place.hidden = false;
}

const kept = store();
const name = (entry) => "hierbmd-review:" + entry.dataset.key;
const open = (entry) => entry.dataset.refused === "0" && !decisions.has(entry.dataset.key);

function recall(entry) {
  const stored = kept && kept.getItem(name(entry));
  if (entry.dataset.refused === "1" || stored === "null") {
    return;
  }
  if (stored) {
    decisions.set(entry.dataset.key, JSON.parse(stored));
  } else if (entry.dataset.decision) {
    decisions.set(entry.dataset.key, { decision: entry.dataset.decision, reason: entry.dataset.reason });
  }
}

function decide(decision, reason) {
  const entry = entries[at];
  if (entry.dataset.refused === "1") {
    return step(1);
  }
  const said = { decision: decision, reason: reason };
  decisions.set(entry.dataset.key, said);
  if (kept) {
    kept.setItem(name(entry), JSON.stringify(said));
  }
  mark(at);
  return nextOpen();
}

function undo() {
  const entry = entries[at];
  decisions.delete(entry.dataset.key);
  if (kept) {
    kept.setItem(name(entry), "null");
  }
  mark(at);
  show(at);
}

function nextOpen() {
  for (let ahead = 1; ahead <= entries.length; ahead += 1) {
    const next = (at + ahead) % entries.length;
    if (open(entries[next])) {
      return show(next);
    }
  }
  return show(at);
}

function step(by) {
  show(Math.min(Math.max(at + by, 0), entries.length - 1));
}

function mark(index) {
  const entry = entries[index];
  const said = decisions.get(entry.dataset.key);
  const state = entry.dataset.refused === "1" ? "refused" : said ? said.decision : "";
  map.children[index].className = state;
  const output = entry.querySelector(".said");
  output.className = "said " + state;
  const words = { accept: "accepted", reject: "rejected", refused: "", "": "" }[state];
  output.textContent = words + (said && said.reason && state === "reject" ? ": " + said.reason : "");
}

function show(index) {
  entries[at].hidden = true;
  map.children[at].removeAttribute("aria-current");
  at = index;
  entries[at].hidden = false;
  map.children[at].setAttribute("aria-current", "true");
  const left = entries.filter(open).length;
  const rejected = [...decisions.values()].filter((said) => said.decision === "reject").length;
  document.getElementById("count").textContent =
    decisions.size + " decided, " + rejected + " of them rejected, " + left + " left";
  window.scrollTo(0, 0);
}

function content() {
  const ours = entries.filter((entry) => entry.dataset.refused === "0" && decisions.has(entry.dataset.key));
  const said = Object.fromEntries(ours.map((entry) => [entry.dataset.key, decisions.get(entry.dataset.key)]));
  return JSON.stringify({ version: Number(main.dataset.version), decisions: said }, null, 2) + "\n";
}

function save() {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([content()], { type: "application/json" }));
  link.download = main.dataset.file;
  link.click();
  URL.revokeObjectURL(link.href);
}

const actions = {
  accept: () => decide("accept", ""),
  reject: () => decide("reject", ""),
  undo: undo,
  next: () => step(1),
  previous: () => step(-1),
  save: save,
};
const keys = { a: "accept", r: "reject", u: "undo", s: "save", ArrowRight: "next", ArrowLeft: "previous" };

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) {
    return;
  }
  const reason = reasons[Number(event.key) - 1];
  if (reason) {
    decide("reject", reason);
  } else if (actions[keys[event.key]]) {
    event.preventDefault();
    actions[keys[event.key]]();
  }
});
document.querySelector(".bar").addEventListener("click", (event) => {
  const action = actions[event.target.dataset.do];
  if (action) {
    action();
    event.target.blur();
  }
});

entries.forEach((entry, index) => {
  const button = document.createElement("button");
  button.type = "button";
  button.title = entry.querySelector("h2").firstChild.textContent;
  button.addEventListener("click", () => {
    show(index);
    button.blur();
  });
  map.append(button);
  recall(entry);
  entry.hidden = true;
});
if (entries.length) {
  entries.forEach((entry, index) => mark(index));
  show(0);
  if (!open(entries[0])) {
    nextOpen();
  }
}
