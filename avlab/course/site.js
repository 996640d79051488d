// The search over all lessons: AVLAB, written above this, holds { lessons, sections }. All text is set as text.
"use strict";
{
  const MOST = 12, AROUND = 70; // results shown; characters of context on either side of a match
  const WEIGHTS = { heading: 10, concepts: 6, title: 3, text: 1, code: 1 };
  const input = document.querySelector(".avlab-site input");
  const said = document.querySelector(".avlab-site .said");
  const results = document.querySelector(".avlab-site .results");
  const plain = (text) => text.normalize("NFKD").replace(/[\u0300-\u036f]/g, "").toLowerCase();
  const sections = AVLAB.sections.map((section) => {
    const lesson = AVLAB.lessons[section.lesson];
    const fields = { ...section, concepts: section.concepts.join(" · "), title: lesson.title };
    const found = Object.fromEntries(Object.keys(WEIGHTS).map((name) => [name, plain(fields[name])]));
    return { ...fields, file: lesson.file, found };
  });

  function score(section, words) {
    let total = 0;
    for (const word of words) {
      const hits = Object.keys(WEIGHTS).filter((name) => section.found[name].includes(word));
      if (!hits.length) return 0;
      total += hits.reduce((sum, name) => sum + WEIGHTS[name], 0);
    }
    return total;
  }

  function add(parent, tag, name, text) {
    const element = document.createElement(tag);
    element.className = name;
    element.textContent = text;
    return parent.appendChild(element);
  }

  function snippet(parent, text, words) {
    const low = text.toLowerCase();
    const places = words.map((word) => [low.indexOf(word), word.length]).filter(([place]) => place >= 0);
    if (!places.length) return;
    const [place, length] = places[0];
    const start = Math.max(0, place - AROUND), end = place + length + AROUND;
    const line = add(parent, "p", "snippet", (start ? "…" : "") + text.slice(start, place));
    add(line, "mark", "", text.slice(place, place + length));
    line.append(text.slice(place + length, end) + (end < text.length ? "…" : ""));
  }

  function search() {
    const words = plain(input.value).split(/\s+/).filter((word) => word.length > 1);
    results.replaceChildren();
    said.textContent = "";
    if (!words.length) return;
    const found = sections.map((section) => [score(section, words), section]).filter(([value]) => value > 0);
    found.sort((a, b) => b[0] - a[0]); // stable: equal ones stay in the order of the course
    said.textContent = !found.length ? "Nothing found." :
      `${found.length} ${found.length === 1 ? "section" : "sections"} found` +
      (found.length > MOST ? `, the best ${MOST} shown.` : ". Arrow keys go through them.");
    for (const [, section] of found.slice(0, MOST)) {
      const item = add(results, "li", "", "");
      const link = add(item, "a", "", section.heading === section.title ? section.title :
        `${section.title}: ${section.heading}`);
      link.href = section.file + (section.anchor ? "#" + section.anchor : "");
      snippet(item, section.text, words);
      if (section.concepts) add(item, "p", "concepts", "Teaches: " + section.concepts);
    }
  }

  function move(event) {
    const links = [...results.querySelectorAll("a")];
    const place = links.indexOf(document.activeElement);
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (event.key === "Escape") {
      input.value = "";
      search();
      input.focus();
    } else if (step && links.length) {
      (links[place + step] ?? (step < 0 ? input : links[links.length - 1])).focus();
    } else if (event.key === "Enter" && document.activeElement === input && links.length) {
      links[0].click();
    } else return;
    event.preventDefault();
  }

  input.addEventListener("input", search);
  input.closest("search").addEventListener("keydown", move);
  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest?.("input, textarea, select, [contenteditable], .avlab-player, .avlab-atlas");
    if (event.key !== "/" || typing || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    input.focus();
  });
}
