// Labelling by keys. The next reviews are leased ahead, so that a key shows the next one at once. Answers are sent
// behind it, in order, each with an id of its own: sent again, it is known. Until the server has them they stay in
// this browser, also when the page is closed.
"use strict";

const AHEAD = 8;
const AT_ONCE = 20;
const FIRST_WORDS = 60;
const IDLE_MS = 10 * 60_000;
const LONGEST_WAIT_MS = 30_000;
const RATE_MS = 5 * 60_000;
const REVEAL_MS = 8_000;
const WHEN = { dateStyle: "medium", timeStyle: "short" };

const config = JSON.parse(document.getElementById("label-config").textContent);
const csrf = document.querySelector('meta[name="csrf"]').content;
const at = (id) => document.getElementById(id);

class Failure extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function request(method, path, body, options = {}) {
  const headers = { "Content-Type": "application/json", "X-CSRF-Token": csrf };
  const sent = { method, headers, signal: AbortSignal.timeout(20_000), ...options };
  if (body) sent.body = JSON.stringify({ task: config.task, ...body });
  let response;
  let answer = null;
  try {
    response = await fetch(`/api/v1${path}`, sent);
    if (response.status !== 204) answer = await response.json();
  } catch {
    throw new Failure(0, "The console does not answer.");
  }
  if (!response.ok) throw new Failure(response.status, answer?.detail ?? `The console answers ${response.status}.`);
  return answer;
}

const read = (path, values = {}) => request("GET", `${path}?${new URLSearchParams({ task: config.task, ...values })}`);

/** A random id (UUID version 4); crypto.randomUUID is missing where the console is reached without TLS. */
function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}

/** What was done and is not saved yet, in order. Each page has a place of its own in the browser's storage. */
class Outbox {
  #prefix = `reviewloop.label ${JSON.stringify([config.annotator, config.task])} `;
  #key = this.#prefix + newId();
  #isSending = false;
  #atOnce = AT_ONCE;
  #tries = 0;
  #wake = null;
  entries = [];
  refused = [];
  trouble = null;
  isKept = true;

  constructor(settled, changed) {
    this.settled = settled;
    this.changed = changed;
  }

  /** Take over what earlier pages left; where one of them still lives, both send, and it counts once. */
  adopt() {
    for (const key of Object.keys(localStorage).filter((one) => one.startsWith(this.#prefix) && one !== this.#key)) {
      const { entries = [], refused = [] } = JSON.parse(localStorage.getItem(key));
      const known = new Set([...this.entries, ...this.refused].map((entry) => entry.action.id));
      this.entries.push(...entries.filter((entry) => !known.has(entry.action.id)));
      this.refused.push(...refused.filter((entry) => !known.has(entry.action.id)));
      this.keep();
      localStorage.removeItem(key);
    }
    this.flush();
  }

  push(action, item) {
    this.entries.push({ action, item });
    this.keep();
    this.flush();
  }

  keep() {
    const { entries, refused } = this;
    try {
      if (entries.length || refused.length) localStorage.setItem(this.#key, JSON.stringify({ entries, refused }));
      else localStorage.removeItem(this.#key);
      this.isKept = true;
    } catch {
      this.isKept = false; // storage is full or forbidden: the page still has them
    }
    this.changed();
  }

  again() {
    this.trouble = null;
    this.#tries = 0;
    this.#wake?.();
    this.flush();
  }

  retry(entry) {
    this.refused = this.refused.filter((one) => one !== entry);
    this.push(entry.action, entry.item);
  }

  discard(entry) {
    this.refused = this.refused.filter((one) => one !== entry);
    this.keep();
  }

  async flush() {
    if (this.#isSending) return;
    this.#isSending = true;
    while (this.entries.length) {
      const batch = this.#batch();
      try {
        const { results } = await request("POST", "/labels", { actions: batch.map((entry) => entry.action) });
        this.#tries = 0;
        this.trouble = null;
        results.forEach((result, place) => this.#settle(batch[place], result));
      } catch (failure) {
        await this.#failed(failure, batch);
      }
    }
    this.#isSending = false;
  }

  // What follows an undo may need the lease that it brings back.
  #batch() {
    const undo = this.entries.findIndex((entry) => entry.action.kind === "undo");
    return this.entries.slice(0, Math.min(this.#atOnce, undo < 0 ? Infinity : undo + 1));
  }

  async #failed(failure, batch) {
    const isFinal = failure.status >= 400 && failure.status < 500 && ![401, 403, 408, 429].includes(failure.status);
    if (isFinal && batch.length > 1) {
      this.#atOnce = 1; // one of them is at fault
    } else if (isFinal) {
      this.#settle(batch[0], { state: "refused", detail: failure.message });
    } else {
      const wait = Math.min(LONGEST_WAIT_MS, 250 * 2 ** this.#tries++) * (0.75 + Math.random() / 2);
      this.trouble = { failure, tries: this.#tries };
      this.changed();
      await new Promise((resolve) => {
        this.#wake = resolve;
        setTimeout(resolve, wait);
      });
    }
  }

  #settle(entry, result) {
    this.entries = this.entries.filter((one) => one !== entry);
    const undo = this.entries.find((one) => one.action.undoes === entry.action.id);
    if (result.state === "refused" && undo) {
      this.entries = this.entries.filter((one) => one !== undo); // it was taken back before it was there
    } else if (result.state === "refused" && entry.action.kind !== "undo") {
      this.refused.push({ ...entry, detail: result.detail });
    }
    this.settled(entry, result);
    this.keep();
  }
}

const outbox = new Outbox(settled, showUnsaved);
let current = null;
let awaited = null; // the record of an undo whose review is not in this page
let ahead = [];
let done = [];
let progress = { today: 0, left: 0, repeated: 0, same: 0, median_seconds: null };
let times = [];
let changes = 0; // since the page was loaded
const undone = new Set();
let words = null;
let isWhole = false;
let isHighlighting = false;
let isLeasing = false;
let attempts = 0; // to lease, since there were enough
let leaseSeconds = config.leaseSeconds;
let shownAt = 0; // moved on by the time in which the page was hidden
let hiddenAt = null;
let lastKeyAt = performance.now();
const timers = {};

function later(name, run, ms) {
  clearTimeout(timers[name]);
  timers[name] = setTimeout(run, ms);
}

// Items

const held = () => [current, ...ahead].filter((item) => item?.token);
const isInHand = (record) =>
  [current, ...ahead].some((item) => item?.record === record) || outbox.entries.some((one) => one.action.record === record);

async function prefetch() {
  if (isLeasing || ahead.length > AHEAD / 2 || timers.isWaiting) return;
  isLeasing = true;
  const most = AHEAD - ahead.length;
  let isShort = true;
  try {
    const { items, seconds } = await request("POST", "/queue/leases", { most, queue: config.queue });
    ahead.push(...items.filter((item) => !isInHand(item.record)));
    leaseSeconds = seconds;
    isShort = items.length < most;
    if (!current && awaited === null) next();
    if (!outbox.trouble) showTrouble("");
  } catch (failure) {
    if (!current) showTrouble(failure.message, failure);
  }
  isLeasing = false;
  if (!current) show();
  attempts = isShort ? attempts + 1 : 0;
  if (isShort) {
    // After a reload, what the page before had comes back in a moment.
    timers.isWaiting = true;
    setTimeout(() => {
      timers.isWaiting = false;
      prefetch();
    }, Math.min(current ? 2_000 : 5_000, 250 * 2 ** attempts));
  }
}

function next() {
  current = ahead.shift() ?? null;
  show();
  prefetch();
}

async function renew() {
  later("renew", renew, (leaseSeconds * 1000) / 3);
  const leases = held();
  if (!leases.length || performance.now() - lastKeyAt > IDLE_MS) return;
  try {
    const body = { leases: leases.map(({ record, token }) => ({ record, token })) };
    const { records } = await request("POST", "/queue/leases/renew", body);
    ahead = ahead.filter((item) => !leases.includes(item) || records.includes(item.record));
    prefetch();
  } catch {
    // the leases go on for a while, and late answers are stored as well
  }
}

function leave() {
  const leases = held().map(({ record, token }) => ({ record, token }));
  if (leases.length) request("POST", "/queue/leases/return", { leases }, { keepalive: true }).catch(() => {});
  ahead = [];
}

// Answers

function act(kind, label = null, item = current) {
  if (!item) return;
  const seconds = item === current ? Math.round(performance.now() - shownAt) / 1000 : null;
  const action = { id: newId(), kind, record: item.record, token: item.token, label, seconds };
  changes += 1;
  done.push({ id: action.id, record: item.record, kind, label, item, isBeside: item !== current });
  if (kind === "answer") {
    progress.today += 1;
    times.push(performance.now());
  }
  if (item === current) {
    progress.left = Math.max(0, progress.left - 1);
    next();
  }
  outbox.push(action, item);
  showProgress();
}

function undo() {
  const last = done.pop();
  if (!last) {
    tell("There is nothing to take back.");
    return;
  }
  changes += 1;
  undone.add(last.id);
  if (!last.isBeside) {
    if (current) ahead.unshift(current);
    current = last.item ? { ...last.item, token: 0 } : null;
    awaited = current ? null : last.record;
  }
  if (last.kind === "answer") {
    progress.today = Math.max(0, progress.today - 1);
    times.pop();
  }
  progress.left += last.isBeside ? 0 : 1;
  outbox.push({ id: newId(), kind: "undo", undoes: last.id, record: last.record, token: 0 }, last.item);
  tell(last.isBeside ? `Taken back: “${beginning(last.item.text, 6)}”.` : "Taken back.");
  if (!last.isBeside) show();
  showProgress();
}

function settled({ action, item }, result) {
  if (action.kind === "undo") {
    takenBack(action.record, result);
  } else if (result.state === "refused") {
    done = done.filter((one) => one.id !== action.id);
  } else if (action.kind === "answer") {
    reveal(action, item, result);
    if (action.label !== null) later("similar", () => findSimilar(action), 500);
  }
}

function takenBack(record, result) {
  const shown = [current, ...ahead].find((item) => item?.record === record);
  if (result.item) {
    // It may have been answered anew meanwhile.
    const pending = outbox.entries.filter((one) => one.action.record === record && one.action.kind !== "undo");
    pending.forEach((entry) => (entry.action.token = result.item.token));
    if (shown) shown.token = result.item.token;
    else if (awaited === record) current = result.item;
    else if (!pending.length) ahead.unshift(result.item);
  } else if (shown || awaited === record) {
    tell(result.state === "refused" ? result.detail : "Taken back. You do not have that review now; if it is still asked about, it comes again.");
    ahead = ahead.filter((item) => item !== shown);
    if (current === shown) current = null;
  }
  if (awaited === record) awaited = null;
  if (!current) next();
  else if (!shown) show();
}

// The page

function show() {
  isWhole = false;
  shownAt = performance.now();
  at("item").dataset.record = current?.record ?? "";
  at("item").classList.toggle("empty", !current);
  document.querySelectorAll("[data-needs-item]").forEach((button) => (button.disabled = !current));
  const facts = current && [current.product, current.source, new Date(current.published_at).toLocaleString([], WHEN), current.review_id];
  at("facts").textContent = facts ? facts.filter(Boolean).join(" · ") : "";
  at("edited").hidden = !current?.is_edited;
  at("why").textContent = current?.why ?? "";
  showText();
}

function showText() {
  const [shown, rest] = current ? split(current.text) : [nothing(), 0];
  at("text").replaceChildren(...(isHighlighting && words && current ? marked(shown) : [shown]));
  at("more").hidden = !rest;
  at("more-count").textContent = rest ? `${rest.toLocaleString()} more words` : "";
}

function nothing() {
  if (awaited !== null) return "Taking it back …";
  return isLeasing ? "…" : config.nothing;
}

/** The first words of a long text, and how many follow. */
function split(text) {
  if (isWhole) return [text, 0];
  const found = [...text.matchAll(/\S+/g)];
  if (found.length <= FIRST_WORDS * 1.25) return [text, 0];
  const last = found[FIRST_WORDS - 1];
  return [`${text.slice(0, last.index + last[0].length)} …`, found.length - FIRST_WORDS];
}

function marked(text) {
  return text.split(/(\p{L}+)/u).map((part) => {
    const label = words.get(part.toLowerCase());
    if (!label) return part;
    const mark = document.createElement("mark");
    mark.title = label;
    mark.textContent = part;
    return mark;
  });
}

async function highlight() {
  isHighlighting = !isHighlighting;
  at("highlight").setAttribute("aria-pressed", isHighlighting);
  if (isHighlighting && !words) {
    const found = await read("/labels/words").catch(() => ({}));
    words = new Map(Object.entries(found).flatMap(([label, list]) => list.map((word) => [word, label])));
    if (!words.size) tell("No words are known yet that speak for a label.");
  }
  showText();
}

function showProgress() {
  const now = performance.now();
  times = times.filter((time) => now - time < RATE_MS);
  const minutes = times.length > 1 ? (now - times[0]) / 60_000 : 0;
  const { today, left, repeated, same, median_seconds: median } = progress;
  at("seconds").textContent = median === null ? "–" : median.toFixed(1);
  at("today").textContent = today.toLocaleString();
  at("rate").textContent = minutes > 0.05 ? (times.length / minutes).toFixed(1) : "–";
  at("left").textContent = left >= config.mostLeft ? `${config.mostLeft.toLocaleString()}+` : left.toLocaleString();
  at("same").textContent = `${same} of ${repeated}`;
  at("same").parentElement.hidden = !repeated;
}

async function readProgress(isFirst = false) {
  const changesBefore = changes;
  const found = await read("/labels/progress").catch(() => null);
  if (found && isFirst) rememberDone(found.done);
  const isCurrent = found && changes === changesBefore && !outbox.entries.length;
  if (isCurrent) progress = found;
  showProgress();
  later("progress", () => readProgress(isFirst && !found), isCurrent ? 30_000 : 2_000);
}

/** What earlier pages did can be taken back here, also what they did not save. */
function rememberDone(before) {
  const pending = outbox.entries.filter(({ action }) => action.kind !== "undo");
  const earlier = [...before.map((one) => ({ ...one, item: null })), ...pending.map(({ action, item }) => ({ ...action, item }))];
  const known = new Set([...done.map((one) => one.id), ...undone, ...outbox.entries.map(({ action }) => action.undoes)]);
  done = [...earlier.filter((one) => !known.has(one.id) && known.add(one.id)), ...done];
}

async function readNeeds() {
  later("needs", readNeeds, 60_000);
  const needs = await read("/labels/needs").catch(() => []);
  at("needs").hidden = !needs.length;
  at("needs-list").replaceChildren(
    ...needs.map(({ purpose, more, classes }) => {
      const among = Object.entries(classes).map(([label, count]) => `${count} ${label}`);
      const entry = document.createElement("li");
      entry.textContent = `${more} more ${purpose}${among.length ? `, among them ${among.join(", ")}` : ""}`;
      return entry;
    }),
  );
}

function reveal({ label }, item, { detail, guess, others }) {
  const parts = [`${name(label)} for “${beginning(item?.text ?? "", 6)}”`];
  parts.push(guess ? `the model: ${guess.label} (${Math.round(guess.confidence * 100)} %)` : "the model has not scored it");
  parts.push(...others.map((other) => `${other.annotator}: ${name(other.label)}`));
  if (detail) parts.push(detail);
  tell(parts.join(" · "), guess && guess.label !== label ? "differs" : "");
}

const name = (label) => label ?? "unsure";
const beginning = (text, count) => {
  const found = text.split(/\s+/).filter(Boolean);
  return found.slice(0, count).join(" ") + (found.length > count ? " …" : "");
};

function tell(sentence, kind = "") {
  at("told").textContent = sentence;
  at("told").className = `told ${kind}`;
  later("told", () => at("told").classList.add("past"), REVEAL_MS);
}

function button(text, run, kind = "") {
  const made = document.createElement("button");
  made.type = "button";
  made.className = kind;
  made.textContent = text;
  made.addEventListener("click", run);
  return made;
}

async function findSimilar({ record, label }) {
  if (at("similar").contains(document.activeElement)) return; // somebody is in the list
  const found = await read("/labels/similar", { record }).catch(() => []);
  const list = found.filter((one) => !isInHand(one.record));
  at("similar").hidden = !list.length;
  at("similar-label").textContent = label;
  at("similar-list").replaceChildren(
    ...list.map((one) => {
      const entry = document.createElement("li");
      const text = document.createElement("p");
      text.dir = "auto";
      text.textContent = beginning(one.text, 40);
      const confirm = button(label, () => {
        const following = entry.nextElementSibling ?? entry.previousElementSibling;
        act("answer", label, { ...one, token: 0, published_at: Date.now(), why: "", is_edited: false, source: null });
        entry.remove();
        following?.querySelector("button").focus();
        at("similar").hidden = !following;
      });
      confirm.setAttribute("aria-label", `${label}: ${beginning(one.text, 8)}`);
      entry.append(text, confirm);
      return entry;
    }),
  );
}

function goToSimilar() {
  if (at("similar").contains(document.activeElement)) document.activeElement.blur();
  else at("similar").querySelector("button")?.focus();
}

function showUnsaved() {
  const { entries, refused, trouble, isKept } = outbox;
  at("unsaved").hidden = !refused.length;
  at("unsaved-list").replaceChildren(
    ...refused.map((entry) => {
      const line = document.createElement("li");
      const text = document.createElement("p");
      text.dir = "auto";
      const said = entry.action.kind === "skip" ? "skipped" : name(entry.action.label);
      text.textContent = `${said}: “${beginning(entry.item?.text ?? "", 20)}” ${entry.detail}`;
      const row = document.createElement("div");
      row.className = "buttons";
      row.append(button("Try again", () => outbox.retry(entry)), button("Discard", () => outbox.discard(entry)));
      line.append(text, row);
      return line;
    }),
  );
  const count = `${entries.length.toLocaleString()} not saved yet`;
  at("saving").textContent = entries.length > 2 || trouble ? count : "";
  if (!trouble) showTrouble(isKept ? "" : "This browser keeps nothing: leave the page only when all is saved.");
  else if (trouble.failure.status === 403) {
    showTrouble(`${trouble.failure.message} ${count}: this browser keeps that. Log in again with an account that may label.`, trouble.failure);
  } else if (trouble.failure.status === 401) {
    showTrouble(`You are logged out. ${count}: this browser keeps that, and saves it when you have logged in again.`, trouble.failure);
  } else if (trouble.tries > 2) {
    showTrouble(`${trouble.failure.message} ${count}: this browser keeps that, and tries again.`, trouble.failure);
  }
}

function showTrouble(sentence, failure = null) {
  at("trouble").hidden = !sentence;
  at("trouble-text").textContent = sentence;
  at("trouble-log-in").hidden = failure?.status !== 401 && failure?.status !== 403;
  at("trouble-again").hidden = !failure;
}

// Keys and buttons

const commands = {
  unsure: () => act("answer", null),
  skip: () => act("skip"),
  undo,
  more: () => {
    isWhole = true;
    showText();
  },
  guidelines: () => (at("guidelines").open ? at("guidelines").close() : at("guidelines").showModal()),
  highlight,
  similar: goToSimilar,
  again: () => {
    outbox.again();
    prefetch();
  },
};
const keys = new Map();
config.labels.forEach(({ label, keys: own }) => own.forEach((key) => keys.set(key, () => act("answer", label))));
Object.entries(config.commands).forEach(([command, key]) => keys.set(key, commands[command]));

document.body.dataset.ownG = ""; // g shows the guidelines here
document.addEventListener(
  "keydown",
  (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
    if (!window.reviewloop.hasKeys() || event.target.closest?.("input, textarea, select")) return;
    const open = document.querySelector("dialog[open]");
    const isClosing = open === at("guidelines") && event.key === config.commands.guidelines;
    const run = keys.get(event.key.toLowerCase());
    if (!run || (open && !isClosing)) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    lastKeyAt = performance.now();
    run();
  },
  true,
);
document.addEventListener("click", (event) => {
  const pressed = event.target.closest?.("[data-answer], [data-command]");
  if (!pressed) return;
  lastKeyAt = performance.now();
  if (pressed.dataset.command) commands[pressed.dataset.command]();
  else act("answer", config.labels[Number(pressed.dataset.answer)].label);
});
document.addEventListener("visibilitychange", () => {
  if (document.hidden) {
    hiddenAt = performance.now();
    return;
  }
  if (hiddenAt !== null) shownAt += performance.now() - Math.max(hiddenAt, shownAt);
  hiddenAt = null;
  renew();
});
window.addEventListener("online", () => outbox.again());
window.addEventListener("pagehide", leave);
window.addEventListener("pageshow", (event) => event.persisted && location.reload());

try {
  outbox.adopt();
} catch {
  tell("What an earlier page kept in this browser cannot be read.");
}
show();
prefetch();
readProgress(true);
readNeeds();
later("renew", renew, (leaseSeconds * 1000) / 3);
