// Live parts, keys and notices of all pages. Pages work without it; nothing here loads anything from elsewhere.
"use strict";

const POLL_MS = 5000;
const LONGEST_POLL_MS = 60000;

/** A request of this page's own, with what shows that it is one. */
function ask(address, options = {}) {
  const csrf = document.querySelector('meta[name="csrf"]')?.content ?? "";
  const headers = { "X-Fragment": "1", ...(options.headers ?? {}) };
  if (options.method && options.method !== "GET") headers["X-CSRF-Token"] = csrf;
  return fetch(address, { credentials: "same-origin", ...options, headers });
}

/** Say something at the edge of the page; screen readers read it out. */
function notify(text, { bad = false, ms = 6000 } = {}) {
  const note = document.createElement("p");
  note.className = bad ? "toast bad" : "toast";
  note.textContent = text;
  document.getElementById("toasts")?.append(note);
  setTimeout(() => note.remove(), ms);
}

/** Whether keys now belong to a text that somebody writes. */
function isTyping(target) {
  return target instanceof Element && target.closest("input, textarea, select, [contenteditable]") !== null;
}

// An element with data-poll="/address" is replaced by what is there, every five seconds while the page is in sight.
function poll(element) {
  let wait = POLL_MS;
  let failing = false;
  const again = () => setTimeout(run, wait);
  async function run() {
    if (!element.isConnected) return;
    if (document.hidden) {
      document.addEventListener("visibilitychange", run, { once: true });
      return;
    }
    try {
      const response = await ask(element.dataset.poll, { signal: AbortSignal.timeout(20000) });
      if (response.status === 401) {
        notify("You are logged out: load the page again to log in.", { bad: true, ms: 600000 });
        return;
      }
      if (!response.ok) throw new Error(String(response.status));
      show(element, await response.text());
      if (failing) notify("This page is live again.");
      failing = false;
      wait = POLL_MS;
      element.classList.remove("stale");
    } catch {
      if (!failing) notify("The console does not answer: the numbers may be old. It is tried again.", { bad: true });
      failing = true;
      wait = Math.min(LONGEST_POLL_MS, wait * 2);
      element.classList.add("stale");
    }
    again();
  }
  again();
}

function show(element, text) {
  if (element.polled === text) return;
  // What somebody reads, writes or has open stays until they are done with it.
  const isInUse = element.contains(document.activeElement) || element.querySelector("details[open]");
  if (isInUse) return;
  element.polled = text;
  element.innerHTML = text;
  element.dispatchEvent(new CustomEvent("polled", { bubbles: true }));
}

// g and a digit: to a page; ?: the list of keys; Escape: close what is open; a key that a button names: that button.
// Single keys can be switched off, for those whose software types (WCAG 2.1.4).
const KEYS_OFF = "reviewloop-keys-off";
const hasKeys = () => localStorage.getItem(KEYS_OFF) === null;
const keysSwitch = document.getElementById("keys-on");
if (keysSwitch) {
  keysSwitch.checked = hasKeys();
  keysSwitch.addEventListener("change", () => (keysSwitch.checked ? localStorage.removeItem(KEYS_OFF) : localStorage.setItem(KEYS_OFF, "")));
}

let goes = false;
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Escape") {
    document.querySelectorAll("details.decision[open]").forEach((one) => {
      one.open = false;
      one.querySelector("summary").focus();
    });
    return;
  }
  if (!hasKeys() || isTyping(event.target) || document.querySelector("dialog[open]")) return;
  const keyed = goes ? undefined : document.querySelector(`button[data-key="${CSS.escape(event.key)}"]:enabled`);
  if (keyed) {
    event.preventDefault();
    keyed.click();
  } else if (event.key === "?") {
    document.getElementById("keys-help")?.showModal();
  } else if (event.key === "g" && document.body.dataset.ownG === undefined) {
    goes = true;
    setTimeout(() => (goes = false), 1500);
  } else if (goes && /^[1-9]$/.test(event.key)) {
    goes = false;
    const entry = document.querySelectorAll("[data-go]")[Number(event.key) - 1];
    if (entry) location.assign(entry.dataset.go);
    event.preventDefault();
    event.stopImmediatePropagation();
  }
});

document.addEventListener("click", (event) => {
  if (event.target.closest?.("[data-keys-help]")) document.getElementById("keys-help")?.showModal();
  document.querySelectorAll("details.decision[open]").forEach((one) => {
    if (event.target === one || !one.contains(event.target)) one.open = false;
  });
});

// An opened decision gets the focus; no form is sent twice.
document.addEventListener("toggle", (event) => {
  const opened = event.target;
  if (opened.matches?.("details.decision[open]")) opened.querySelector("select, textarea, input:not([type=hidden])")?.focus();
}, true);
document.addEventListener("submit", (event) => {
  if (event.defaultPrevented) return;
  setTimeout(() => event.target.querySelectorAll("button").forEach((one) => (one.disabled = true)));
});
window.addEventListener("pageshow", () => document.querySelectorAll("button:disabled").forEach((one) => (one.disabled = false)));
document.addEventListener("focusin", (event) => {
  if (event.target.matches?.("[data-select]")) event.target.select();
});

document.querySelector(".side nav [aria-current]")?.scrollIntoView({ inline: "center", block: "nearest" });

// For the scripts of single pages.
window.reviewloop = { ask, notify, isTyping, hasKeys };

// One box ticks all of a list.
document.addEventListener("change", (event) => {
  const name = event.target.dataset?.tickAll;
  if (name) document.querySelectorAll(`input[type=checkbox][name="${name}"]`).forEach((one) => (one.checked = event.target.checked));
});

document.querySelectorAll("[data-poll]").forEach(poll);
document.querySelectorAll(".toasts .toast").forEach((note) => setTimeout(() => note.remove(), 8000));
