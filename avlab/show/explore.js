// An explorer: native controls (keyboard and screen reader for free) over one picture that the kernel draws.
// A move is sent at once and the next one when the kernel has taken it: of those in between only the newest is sent.

const CSS = `
.avlab-explorer { font: 13px/1.4 var(--jp-ui-font-family, "DejaVu Sans", Arial, sans-serif); padding: 8px;
  color: var(--jp-ui-font-color1, #222); background: var(--jp-layout-color1, #fff); }
.avlab-explorer label { display: flex; flex-wrap: wrap; align-items: center; gap: 2px 10px; min-height: 30px; }
.avlab-explorer .name { flex: 0 0 96px; overflow-wrap: anywhere; }
.avlab-explorer input[type=range] { flex: 1 1 110px; max-width: 340px; min-width: 0; accent-color: #0072B2; }
.avlab-explorer select { font: inherit; max-width: 100%; padding: 3px; color: inherit;
  background: var(--jp-layout-color2, #eee); border: 1px solid var(--jp-ui-font-color2, #666); }
.avlab-explorer output { flex: 0 0 56px; font-variant-numeric: tabular-nums; }
.avlab-explorer .doing { min-height: 1.4em; font-style: italic; }
.avlab-explorer .error { border-left: 6px solid #d32f2f; padding: 4px 10px; overflow-wrap: anywhere;
  color: #8e0018; background: #fdeaec; }
.avlab-explorer .error:empty { display: none; }
.avlab-explorer img { max-width: 100%; display: block; }
.avlab-explorer :focus-visible { outline: 3px solid #0072B2; outline-offset: 2px; }
[data-jp-theme-light="false"] .avlab-explorer :focus-visible { outline-color: #56B4E9; }`;
const PATIENCE = 200; // milliseconds after which a draw counts as slow: what is quicker needs no words

function make(tag, parent, attributes = {}, text = "") {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  if (text) node.textContent = text; // never innerHTML: names come from files
  parent.append(node);
  return node;
}

// the keys of a slider or list by hand: JupyterLab takes the arrow keys' own action away
function keys(node, count, place) {
  const back = node.tagName === "SELECT" ? 1 : -1, far = Math.max(1, Math.round(count / 10)); // a list runs downwards
  node.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1, ArrowUp: -back, ArrowDown: back, PageUp: -back * far,
      PageDown: back * far, Home: -count, End: count }[event.key];
    if (step === undefined || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    const next = Math.min(Math.max(place() + step, 0), count - 1);
    if (node.tagName === "SELECT") node.selectedIndex = next;
    else node.value = next;
    node.dispatchEvent(new Event("input"));
  });
}

// one labelled control: `put(place)` shows a position among its values, `place()` is the one shown
function control(parent, { name, kind, texts }, moved) {
  const label = make("label", parent);
  make("span", label, { class: "name" }, name);
  if (kind === "list") {
    const select = make("select", label);
    texts.forEach((text) => make("option", select, {}, text));
    select.addEventListener("input", moved);
    keys(select, texts.length, () => select.selectedIndex);
    return { place: () => select.selectedIndex, put: (place) => { select.selectedIndex = place; } };
  }
  if (kind === "switch") {
    const box = make("input", label, { type: "checkbox" });
    box.addEventListener("input", moved);
    return { place: () => +box.checked, put: (place) => { box.checked = place === 1; } };
  }
  const slider = make("input", label, { type: "range", min: 0, max: texts.length - 1, step: 1 });
  const value = make("output", label);
  const put = (place) => {
    slider.value = place;
    value.textContent = texts[place];
    slider.setAttribute("aria-valuetext", texts[place]);
  };
  slider.addEventListener("input", () => { put(+slider.value); moved(); });
  keys(slider, texts.length, () => +slider.value);
  return { place: () => +slider.value, put };
}

function render({ model, el }) {
  make("style", el, {}, CSS);
  const root = make("div", el, { class: "avlab-explorer", role: "group", "aria-label": `Explorer: ${model.get("name")}`,
    "data-lm-suppress-shortcuts": "true" });
  const controls = model.get("panel").map((one) => control(root, one, moved));
  const doing = make("div", root, { class: "doing", role: "status" });
  const error = make("div", root, { class: "error", role: "alert" });
  const picture = make("img", root);
  let busy = false, waiting = false, timer = 0, newest = 0, url = "";

  function moved() { // by the learner
    waiting = true;
    if (busy) return;
    busy = true;
    waiting = false;
    model.send({ places: controls.map((one) => one.place()) });
    clearTimeout(timer);
    timer = setTimeout(() => { doing.textContent = "waiting for the running cell …"; }, PATIENCE); // until it is taken
  }

  function taken(message) {
    if (message.taken === undefined) return;
    busy = false;
    told();
    if (waiting) moved();
  }

  function placed() { // from Python, or by the learner in another view
    if (!busy) model.get("places").forEach((place, i) => controls[i].put(place));
  }

  function told() {
    clearTimeout(timer);
    const text = model.get("doing");
    timer = setTimeout(() => { doing.textContent = text; }, text ? PATIENCE : 0);
    error.textContent = model.get("error");
  }

  async function drawn() {
    const number = ++newest, image = new Image();
    const next = URL.createObjectURL(new Blob([model.get("shown")], { type: "image/png" }));
    image.src = next;
    try { await image.decode(); } catch { return URL.revokeObjectURL(next); } // nothing is drawn yet
    if (number !== newest) return URL.revokeObjectURL(next);
    picture.src = next;
    picture.alt = model.get("alt");
    if (url) URL.revokeObjectURL(url);
    url = next;
    root.dataset.drawn = model.get("drawn").join(" ");
  }

  const listeners = { "change:places": placed, "change:doing": told, "change:error": told, "change:drawn": drawn,
    "msg:custom": taken };
  for (const [name, listener] of Object.entries(listeners)) model.on(name, listener);
  placed();
  told();
  drawn();
  return () => { // the view is closed, the model lives on
    for (const [name, listener] of Object.entries(listeners)) model.off(name, listener);
    clearTimeout(timer);
    if (url) URL.revokeObjectURL(url);
  };
}

export default { render };
