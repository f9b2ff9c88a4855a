"use strict";
// Filters and keys. Nothing of the result is a part of this script: it reads the attributes of the elements alone.
(() => {
  const items = [...document.querySelectorAll("main article")];
  const bar = document.querySelector(".controls");
  const help = document.getElementById("keys");
  const one = (selector) => bar ? bar.querySelector(selector) : null;
  const toggles = bar ? [...bar.querySelectorAll("[data-filter]")] : [];
  const names = [...new Set(toggles.map((button) => button.dataset.filter))];
  const file = one("select");
  const text = one("input");
  const words = new Map();
  const entries = new Map();
  for (const link of document.querySelectorAll(".index a")) entries.set(link.hash.slice(1), link);

  const isOn = (button) => button.getAttribute("aria-pressed") === "true";
  const turn = (button, on) => button.setAttribute("aria-pressed", String(on));
  const visible = () => items.filter((item) => !item.hidden);

  function hasText(item, wanted) {
    if (!wanted) return true;
    if (!words.has(item)) words.set(item, item.textContent.toLowerCase());
    return words.get(item).includes(wanted);
  }

  function apply() {
    const off = new Set();
    for (const button of toggles) {
      if (!isOn(button)) off.add(`${button.dataset.filter}=${button.dataset.value}`);
    }
    const wanted = text ? text.value.trim().toLowerCase() : "";
    const number = file ? file.value : "";
    for (const item of items) {
      item.hidden = names.some((name) => off.has(`${name}=${item.dataset[name]}`))
        || (number !== "" && item.dataset.file !== number)
        || !hasText(item, wanted);
      const entry = entries.get(item.id);
      if (entry) entry.parentElement.hidden = item.hidden;
    }
    const count = visible().length;
    document.querySelector(".none").hidden = count > 0 || items.length === 0;
    if (!bar) return;
    one(".shown").textContent = `${count} of ${items.length} shown`;
    one(".reset").hidden = count === items.length && !wanted;
    measure();
  }

  // What is scrolled to must not lie below the bar, which may have more than one row.
  function measure() {
    document.documentElement.style.setProperty("--bar", `${bar.offsetHeight}px`);
  }

  // --- the filters in the address, so that a view can be passed on

  function write() {
    const parts = new URLSearchParams();
    for (const name of names) {
      const own = toggles.filter((button) => button.dataset.filter === name);
      const on = own.filter(isOn);
      if (on.length < own.length) parts.set(name, on.map((button) => button.dataset.value).join(","));
    }
    if (file && file.value) parts.set("file", file.selectedOptions[0].textContent);
    if (text && text.value.trim()) parts.set("text", text.value.trim());
    history.replaceState(null, "", `#${parts}`);
  }

  function read() {
    const fragment = location.hash.slice(1);
    const target = items.find((item) => item.id === fragment);
    if (target) {
      if (target.hidden) showAll();
      target.focus();
      return;
    }
    const parts = new URLSearchParams(fragment);
    for (const button of toggles) {
      const on = parts.get(button.dataset.filter);
      turn(button, on === null || on.split(",").includes(button.dataset.value));
    }
    if (file) {
      const option = [...file.options].find((item) => item.textContent === parts.get("file"));
      file.value = option ? option.value : "";
    }
    if (text) text.value = (parts.get("text") || "").slice(0, 200);
    apply();
  }

  function change() {
    apply();
    write();
  }

  function showAll() {
    for (const button of toggles) turn(button, true);
    if (file) file.value = "";
    if (text) text.value = "";
    apply();
  }

  // --- keys

  function go(step) {
    const shown = visible();
    if (!shown.length) return;
    const here = shown.findIndex((item) => item.contains(document.activeElement));
    let next = here + step;
    if (here < 0) {
      // From where the reader is: the first item that begins below the top of the window.
      const below = shown.findIndex((item) => item.getBoundingClientRect().top >= 0);
      next = below < 0 ? shown.length - 1 : below;
    }
    const item = shown[Math.min(Math.max(next, 0), shown.length - 1)];
    item.focus({ preventScroll: true });
    item.scrollIntoView({ block: "start" });
  }

  function mark(event) {
    const item = event.target.closest("main article");
    const entry = item && entries.get(item.id);
    if (!entry || entry.hasAttribute("aria-current")) return;
    for (const other of entries.values()) other.removeAttribute("aria-current");
    entry.setAttribute("aria-current", "true");
    entry.scrollIntoView({ block: "nearest" });
  }

  function press(key) {
    const button = toggles.find((item) => item.dataset.key === key);
    if (!button) return;
    turn(button, !isOn(button));
    change();
  }

  function onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || help.open) return;
    const isTyping = event.target.matches("input, select");
    if (event.key === "Escape" && isTyping) {
      event.target.blur();
      return;
    }
    if (isTyping) return;
    if (event.key === "j") go(1);
    else if (event.key === "k") go(-1);
    else if (event.key === "/" && text) text.focus();
    else if (event.key === "?") help.showModal();
    else if (event.key === "0") { showAll(); write(); }
    else if (/^[1-5]$/.test(event.key)) press(event.key);
    else return;
    event.preventDefault();
  }

  for (const button of toggles) {
    button.addEventListener("click", () => { turn(button, !isOn(button)); change(); });
  }
  if (file) file.addEventListener("change", change);
  if (text) text.addEventListener("input", change);
  if (bar) {
    one(".reset").addEventListener("click", () => { showAll(); write(); });
    one(".keys").addEventListener("click", () => help.showModal());
    bar.hidden = false;
    new ResizeObserver(measure).observe(bar);
  }
  document.addEventListener("keydown", onKey);
  document.addEventListener("focusin", mark);
  window.addEventListener("hashchange", read);
  apply();
  if (location.hash.length > 1) read();
})();
