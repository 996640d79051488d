// The embedding space that can be heard: each pair is two points and a line. Hover or arrow keys show a point's frame
// and play its sound (after a first click: browsers allow no sound before); a click marks its nearest neighbours.

const CSS = `
.avlab-atlas { font: 13px/1.4 var(--jp-ui-font-family, "DejaVu Sans", Arial, sans-serif); display: flex; flex-wrap: wrap;
  gap: 8px 16px; padding: 8px; color: var(--jp-ui-font-color1, #222); background: var(--jp-layout-color1, #fff); }
.avlab-atlas .map { flex: 1 1 360px; max-width: 600px; min-width: 0; align-self: flex-start; cursor: crosshair; border: 1px solid #999; background: #fff; }
.avlab-atlas .side { flex: none; width: 200px; }
.avlab-atlas .frame { width: 176px; height: 176px; background: #ddd; display: block; }
.avlab-atlas .legend div { display: flex; gap: 6px; align-items: center; }
.avlab-atlas .said { min-height: 5.6em; }
.avlab-atlas button { font: inherit; padding: 4px 10px; margin: 6px 0; cursor: pointer; }
.avlab-atlas :focus-visible { outline: 3px solid #0072B2; outline-offset: 2px; }`;
const SOUND = "#E07B00", SIGHT = "#0072B2", PAIR = "#A0A0A0", INK = "#222222";
const SHARED = Symbol.for("avlab.sound"); // the same AudioContext as the player's
// matplotlib's markers as stars: number of points, turn in degrees, depth of the notches
const SHAPES = { s: [4, 45], D: [4, 0], "^": [3, -90], v: [3, 90], "<": [3, 180], ">": [3, 0], p: [5, -90], h: [6, 0],
  P: [4, 0, 0.4], X: [4, 45, 0.4] };

function make(tag, parent, attributes = {}, text = "") {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  if (text) node.textContent = text;
  parent.append(node);
  return node;
}

function marker(g, shape, x, y, r, colour) {
  g.beginPath();
  if (shape === "o") g.arc(x, y, r * 0.85, 0, 7);
  else {
    const [points, turn, notch] = SHAPES[shape];
    for (let i = 0; i < 2 * points; i++) {
      const angle = (turn + 180 * i / points) * Math.PI / 180;
      const reach = r * 1.15 * (i % 2 ? notch ?? Math.cos(Math.PI / points) : 1);
      g.lineTo(x + reach * Math.cos(angle), y + reach * Math.sin(angle));
    }
    g.closePath();
  }
  g.fillStyle = colour;
  g.fill();
}

function render({ model, el }) {
  const shared = (globalThis[SHARED] ??= { context: null, stop: null });
  make("style", el, {}, CSS);
  const root = make("div", el, { class: "avlab-atlas", role: "group", "data-lm-suppress-shortcuts": "true",
    "aria-label": "Embedding space of sounds and pictures" });
  const map = make("canvas", root, { class: "map", tabindex: "0", role: "application", "aria-label":
    "Map of points. Left and right go to the next pair, up and down change between sound and sight, Enter marks the "
    + "nearest neighbours, space plays." });
  const side = make("div", root, { class: "side" });
  const frame = make("canvas", side, { class: "frame", role: "img", "aria-label": "no point chosen" });
  const toggle = make("button", side, { type: "button", class: "hear", "aria-pressed": "false" }, "♪ Sound on hover: off");
  const said = make("div", side, { class: "said", role: "status" }, "Move over a point; click it for its nearest neighbours.");
  const legend = make("div", side, { class: "legend" });

  const view = (name, Type) => { const v = model.get(name); return new Type(v.buffer.slice(v.byteOffset, v.byteOffset + v.byteLength)); };
  const points = view("points", Float32Array), sounds = view("sounds", Int16Array), offsets = model.get("offsets");
  const labels = model.get("labels"), kinds = model.get("kinds"), names = model.get("names"), near = model.get("near");
  const total = points.length / 2, pairs = total / 2, W = 1200, H = 960, edge = 60;
  const kindOf = (p) => kinds[labels[p % pairs]] ?? { name: "unknown", color: "#BBBBBB", marker: "o" };
  const isSound = (p) => p < pairs, clipOf = (p) => p % pairs;
  const label = (p) => `${isSound(p) ? "sound" : "sight"} of ${names[clipOf(p)]}`;
  map.width = W; map.height = H;
  frame.width = frame.height = 176;
  let hover = -1, source = null, hearing = false, thumbs = null, asked = 0;

  const span = [0, 1].map((axis) => { // equal scale on both axes
    let low = Infinity, high = -Infinity;
    for (let p = 0; p < total; p++) { low = Math.min(low, points[2 * p + axis]); high = Math.max(high, points[2 * p + axis]); }
    return [low, high];
  });
  const scale = Math.min((W - 2 * edge) / (span[0][1] - span[0][0] || 1), (H - 2 * edge) / (span[1][1] - span[1][0] || 1));
  const at = (p) => [W / 2 + scale * (points[2 * p] - (span[0][0] + span[0][1]) / 2),
    H / 2 - scale * (points[2 * p + 1] - (span[1][0] + span[1][1]) / 2)];

  function line(g, p, q, colour, width) {
    g.beginPath(); g.moveTo(...at(p)); g.lineTo(...at(q));
    g.strokeStyle = colour; g.lineWidth = width; g.stroke();
  }

  function dot(g, p, size) {
    const [x, y] = at(p), kind = kindOf(p);
    g.beginPath(); g.arc(x, y, 1.75 * size, 0, 7);
    g.strokeStyle = isSound(p) ? SOUND : SIGHT; g.lineWidth = size / 3; g.stroke();
    marker(g, kind.marker, x, y, size, kind.color);
  }

  function draw() {
    const g = map.getContext("2d"), chosen = model.get("selected"), marks = chosen < 0 ? [] : near[chosen];
    const size = pairs > 150 ? 7 : 10;
    g.clearRect(0, 0, W, H);
    for (let b = 0; b < pairs; b++) line(g, b, b + pairs, PAIR, 1.5);
    for (const q of marks) line(g, chosen, q, INK, 2.5);
    for (const p of [hover, chosen]) if (p >= 0) line(g, clipOf(p), clipOf(p) + pairs, PAIR, 7);
    g.globalAlpha = chosen < 0 ? 1 : 0.35;
    for (let p = 0; p < total; p++) dot(g, p, size);
    g.globalAlpha = 1;
    for (const p of [...marks, chosen, hover]) if (p >= 0) dot(g, p, 1.5 * size);
    g.font = "bold 26px sans-serif"; g.textAlign = "center"; g.lineWidth = 6; g.strokeStyle = "white"; g.fillStyle = INK;
    marks.forEach((q, i) => { const [x, y] = at(q); g.strokeText(i + 1, x, y - 30); g.fillText(i + 1, x, y - 30); });
  }

  function tell(p) { // the point's frame, and its place among the answers to its other half
    if (p < 0 || !thumbs) return;
    const { columns, side: s } = model.get("sheet"), clip = clipOf(p);
    const other = isSound(p) ? p + pairs : p - pairs, rank = near[p].indexOf(other);
    frame.getContext("2d").drawImage(thumbs, (clip % columns) * s, Math.floor(clip / columns) * s, s, s, 0, 0, 176, 176);
    frame.setAttribute("aria-label", `frame of ${names[clip]}`);
    const found = rank >= 0 ? `Its own ${isSound(p) ? "picture" : "sound"} is neighbour ${rank + 1}.`
      : `Its own ${isSound(p) ? "picture" : "sound"} is not among the first ${near[p].length}.`;
    const marked = model.get("selected") === p ? ` Nearest: ${near[p].map((q) => names[clipOf(q)]).join("; ")}.` : "";
    said.textContent = `${label(p)}. ${found}${marked}`;
    root.dataset.point = p;
  }

  async function play(p) {
    const mine = ++asked;
    shared.context ??= new AudioContext();
    await Promise.race([shared.context.resume(), new Promise((done) => setTimeout(done, 1500))]);
    if (mine !== asked || shared.context.state !== "running") return;
    shared.stop?.();
    shared.stop = hush;
    const [from, to] = [offsets[clipOf(p)], offsets[clipOf(p) + 1]], buffer = shared.context.createBuffer(1, to - from, model.get("rate"));
    buffer.getChannelData(0).set(Float32Array.from(sounds.subarray(from, to), (v) => v / 32768));
    source = shared.context.createBufferSource();
    source.buffer = buffer;
    source.connect(shared.context.destination);
    source.start();
    root.dataset.heard = clipOf(p);
  }
  function hush() { asked++; source?.stop(); source = null; }

  function choose(p, sounding) {
    hover = p;
    model.set("selected", p);
    model.save_changes();
    changed();
    if (p >= 0 && sounding) play(p);
  }
  function look(p) {
    if (p === hover) return;
    hover = p;
    draw();
    tell(p);
    if (p >= 0 && hearing) play(p);
  }
  function under(event) {
    const box = map.getBoundingClientRect(), x = (event.clientX - box.left) * W / box.width, y = (event.clientY - box.top) * H / box.height;
    let best = -1, least = 30 ** 2;
    for (let p = 0; p < total; p++) {
      const [px, py] = at(p), d = (px - x) ** 2 + (py - y) ** 2;
      if (d < least) { least = d; best = p; }
    }
    return best;
  }
  const hear = (on) => {
    hearing = on;
    toggle.textContent = `♪ Sound on hover: ${on ? "on" : "off"}`;
    toggle.setAttribute("aria-pressed", String(on));
    if (!on) hush();
  };
  map.onmousemove = (event) => look(under(event));
  map.onmouseleave = () => look(-1);
  map.onclick = (event) => choose(under(event), true);
  toggle.onclick = () => { hear(!hearing); if (hearing) { shared.context ??= new AudioContext(); shared.context.resume(); } };
  map.onkeydown = (event) => {
    const p = Math.max(hover, 0), by = (n) => (clipOf(p) + n + pairs) % pairs + (isSound(p) ? 0 : pairs);
    const act = { ArrowRight: () => look(hover < 0 ? 0 : by(1)), ArrowLeft: () => look(hover < 0 ? 0 : by(-1)),
      ArrowUp: () => look(clipOf(p)), ArrowDown: () => look(clipOf(p) + pairs), Enter: () => choose(p, true),
      " ": () => play(p), Escape: () => choose(-1, false) }[event.key];
    if (act) { act(); event.preventDefault(); event.stopPropagation(); }
  };
  const swatch = (paint, text) => {
    const row = make("div", legend), g = make("canvas", row, { width: 22, height: 22, "aria-hidden": "true" }).getContext("2d");
    paint(g);
    make("span", row, {}, text);
  };
  for (const [colour, text] of [[SOUND, "ring: sound"], [SIGHT, "ring: sight"]])
    swatch((g) => { g.beginPath(); g.arc(11, 11, 8, 0, 7); g.strokeStyle = colour; g.lineWidth = 2.5; g.stroke(); }, text);
  swatch((g) => { g.fillStyle = PAIR; g.fillRect(1, 10, 20, 2); }, "a pair");
  for (const kind of kinds) swatch((g) => marker(g, kind.marker, 11, 11, 7, kind.color), kind.name);

  function changed() { // chosen here, in another view, or from Python
    draw();
    if (model.get("selected") < 0) said.textContent = "Nothing chosen.";
    else tell(model.get("selected"));
  }
  model.on("change:selected", changed);
  const sheet = model.get("thumbs"), url = URL.createObjectURL(new Blob([new Uint8Array(sheet.buffer, sheet.byteOffset, sheet.byteLength)]));
  const image = new Image();
  image.onload = () => { thumbs = image; URL.revokeObjectURL(url); root.dataset.ready = "true"; tell(model.get("selected")); };
  image.onerror = () => { said.textContent = "The frames of these clips cannot be shown."; };
  image.src = url;
  draw();
  return () => { hush(); if (shared.stop === hush) shared.stop = null; model.off("change:selected", changed); };
}

export default { render };
