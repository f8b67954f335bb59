"use strict";
// The address says what is shown: `#/` all images, `#/IMAGE` one of them, `#/IMAGE/12` an animal of it.

const gallery = new Gallery(document.querySelector("#gallery"));
const inspector = new Inspector(document.querySelector("#inspector"), gallery);
const help = document.querySelector("#help");

function show() {
  const [slug, animal] = location.hash.replace(/^#\/?/, "").split("/");
  const known = flatBugData.images.some((image) => image.slug === slug);
  document.body.dataset.view = known ? "image" : "gallery";
  if (known) {
    inspector.open(slug, /^\d+$/.test(animal ?? "") ? Number(animal) : -1);
    return;
  }
  inspector.wanted = null; // an image that comes late stays where it is
  document.title = `${flatBugData.title} · flat-bug`;
}

function changeTheme() {
  const dark = getComputedStyle(document.documentElement).colorScheme === "dark";
  document.documentElement.dataset.theme = dark ? "light" : "dark";
  remember("flat-bug-theme", document.documentElement.dataset.theme);
}

/** Keep a choice for the next visit, where the browser lets a page from a disk do so. */
function remember(key, value) {
  try {
    if (value === undefined) return localStorage.getItem(key);
    localStorage.setItem(key, value);
  } catch {
    // Not kept, then.
  }
  return null;
}

const theme = remember("flat-bug-theme");
if (theme === "dark" || theme === "light") document.documentElement.dataset.theme = theme;
for (const button of document.querySelectorAll(".change-theme")) button.addEventListener("click", changeTheme);
for (const button of document.querySelectorAll(".open-help")) button.addEventListener("click", () => help.showModal());
help.addEventListener("click", (event) => event.target === help && help.close());
window.addEventListener("hashchange", show);
document.addEventListener("keydown", (event) => {
  if (help.open || event.defaultPrevented || event.target.closest("input:not([type=range], [type=checkbox]), select, textarea")) return;
  if (event.key === "?") help.showModal();
  else if (event.target.closest(".deep-zoom")) return; // the stage asks for itself
  else if (document.body.dataset.view === "image") {
    if (inspector.key(event)) event.preventDefault();
  } else if (event.key === "/") {
    event.preventDefault();
    gallery.search.focus();
  }
});
gallery.start();
show();
