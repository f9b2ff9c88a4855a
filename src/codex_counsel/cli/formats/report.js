"use strict";
// Filters and keys. Nothing of the review is a part of this script: it reads the attributes of the elements alone.
(() => {
  const findings = [...document.querySelectorAll("article.finding")];
  const bar = document.querySelector(".controls");
  const help = document.getElementById("keys");
  const severities = ["critical", "high", "medium", "low", "nit"];
  const one = (selector) => bar ? bar.querySelector(selector) : null;
  const toggles = bar ? [...bar.querySelectorAll("[data-filter]")] : [];
  const file = one("select");
  const text = one("input");
  const words = new Map();
  const entries = new Map();
  for (const link of document.querySelectorAll(".index a")) entries.set(link.hash.slice(1), link);

  const isOn = (button) => button.getAttribute("aria-pressed") === "true";
  const turn = (button, on) => button.setAttribute("aria-pressed", String(on));
  const visible = () => findings.filter((finding) => !finding.hidden);

  function hasText(finding, wanted) {
    if (!wanted) return true;
    if (!words.has(finding)) words.set(finding, finding.textContent.toLowerCase());
    return words.get(finding).includes(wanted);
  }

  function apply() {
    const off = new Set();
    for (const button of toggles) {
      if (!isOn(button)) off.add(`${button.dataset.filter}=${button.dataset.value}`);
    }
    const wanted = text ? text.value.trim().toLowerCase() : "";
    const number = file ? file.value : "";
    for (const finding of findings) {
      finding.hidden = off.has(`severity=${finding.dataset.severity}`)
        || off.has(`known=${finding.dataset.known}`)
        || off.has(`proof=${finding.dataset.proof}`)
        || (number !== "" && finding.dataset.file !== number)
        || !hasText(finding, wanted);
      const entry = entries.get(finding.id);
      if (entry) entry.parentElement.hidden = finding.hidden;
    }
    const count = visible().length;
    document.querySelector(".none").hidden = count > 0 || findings.length === 0;
    if (!bar) return;
    one(".shown").textContent = `${count} of ${findings.length} shown`;
    one(".reset").hidden = count === findings.length && !wanted;
    measure();
  }

  // What is scrolled to must not lie below the bar, which may have more than one row.
  function measure() {
    document.documentElement.style.setProperty("--bar", `${bar.offsetHeight}px`);
  }

  // --- the filters in the address, so that a view can be passed on

  function write() {
    const parts = new URLSearchParams();
    for (const name of ["severity", "known", "proof"]) {
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
    const target = findings.find((finding) => finding.id === fragment);
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
    const here = shown.findIndex((finding) => finding.contains(document.activeElement));
    let next = here + step;
    if (here < 0) {
      // From where the reader is: the first finding that begins below the top of the window.
      const below = shown.findIndex((finding) => finding.getBoundingClientRect().top >= 0);
      next = below < 0 ? shown.length - 1 : below;
    }
    const finding = shown[Math.min(Math.max(next, 0), shown.length - 1)];
    finding.focus({ preventScroll: true });
    finding.scrollIntoView({ block: "start" });
  }

  function mark(event) {
    const finding = event.target.closest("article.finding");
    const entry = finding && entries.get(finding.id);
    if (!entry || entry.hasAttribute("aria-current")) return;
    for (const other of entries.values()) other.removeAttribute("aria-current");
    entry.setAttribute("aria-current", "true");
    entry.scrollIntoView({ block: "nearest" });
  }

  function press(severity) {
    const button = toggles.find((item) => item.dataset.value === severity);
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
    else if (/^[1-5]$/.test(event.key)) press(severities[event.key - 1]);
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
