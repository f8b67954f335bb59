"use strict";
// Small things that all parts of the page use. Text from outside goes in as text, never as markup.

/** Return a new element with properties and children; `dataset`, `style` and aria attributes are given by name. */
function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in element && !name.startsWith("aria")) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

/** Return a number with about three digits that tell something. */
function formatNumber(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  const digits = size >= 100 || Number.isInteger(value) ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : 3;
  return value.toLocaleString("en", { maximumFractionDigits: digits, minimumFractionDigits: digits });
}

function formatScore(value) {
  return value.toFixed(2);
}

function formatCell(column, value) {
  return column.key === "score" && value !== null ? formatScore(value) : formatNumber(value);
}

function headingOf(column) {
  return column.unit ? `${column.label} (${column.unit})` : column.label;
}

function plural(count, one, many) {
  return `${count.toLocaleString("en")} ${count === 1 ? one : many}`;
}

/** Call a function once before the next frame, however often it is asked for until then. */
function oncePerFrame(work) {
  let waiting = false;
  return () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      work();
    });
  };
}

const say = (text) => {
  const place = document.querySelector("#announcement");
  place.textContent = text;
  place.classList.add("shown");
  clearTimeout(say.timer);
  say.timer = setTimeout(() => place.classList.remove("shown"), 2200);
};

async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Some browsers give pages from a disk no clipboard.
    const field = make("textarea", { value: text, className: "vh" });
    document.body.append(field);
    field.select();
    document.execCommand("copy");
    field.remove();
  }
}

function saveText(name, text) {
  const address = URL.createObjectURL(new Blob([text], { type: "text/csv;charset=utf-8" }));
  make("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 1000);
}

/** Return a text as a cell of a CSV that no spreadsheet takes for a formula. */
function csvText(text) {
  const harmless = /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
  return /[",\r\n]/.test(harmless) ? `"${harmless.replaceAll('"', '""')}"` : harmless;
}
