// The embedding space that can be heard: each pair is two points and a line. Hover or arrow keys show a point's frame
// and play its sound (after a first click: browsers allow no sound before); a click marks its nearest neighbours; a lasso
// or the legend selects; a slider moves through training. The points are written into the pixels by hand, from small
// pictures of the markers: 20,000 of them in a few milliseconds, with no need of a graphics card.

const CSS = `
.avlab-atlas { font: 13px/1.4 var(--jp-ui-font-family, "DejaVu Sans", Arial, sans-serif); display: flex; flex-wrap: wrap;
  gap: 8px 16px; padding: 8px; color: var(--jp-ui-font-color1, #222); background: var(--jp-layout-color1, #fff); }
.avlab-atlas .plane { flex: 1 1 360px; max-width: 600px; min-width: 0; }
.avlab-atlas .row { display: flex; flex-wrap: wrap; gap: 4px 8px; align-items: center; min-height: 36px; }
.avlab-atlas .stack { position: relative; aspect-ratio: 1200 / 960; border: 1px solid #999; background: #fff; }
.avlab-atlas .stack canvas { position: absolute; inset: 0; width: 100%; height: 100%; }
.avlab-atlas .map { cursor: crosshair; touch-action: none; }
.avlab-atlas .side { flex: 1 0 200px; max-width: 260px; }
.avlab-atlas .frame { width: 176px; height: 176px; background: #ddd; display: block; }
.avlab-atlas .said { min-height: 5.6em; overflow-wrap: anywhere; }
.avlab-atlas .legend { max-height: 270px; overflow-y: auto; padding: 3px; }
.avlab-atlas .legend .entry { display: flex; gap: 6px; align-items: center; width: 100%; min-height: 26px; padding: 0 4px;
  border: 1px solid transparent; border-radius: 3px; font: inherit; color: inherit; background: none; text-align: left; }
.avlab-atlas .legend canvas { flex: none; background: #fff; border-radius: 3px; }
.avlab-atlas button.entry, .avlab-atlas .quarter { cursor: pointer; }
.avlab-atlas button.entry[aria-pressed=true] { border-color: currentColor; font-weight: bold; }
.avlab-atlas .bar { display: flex; }
.avlab-atlas .quarter { flex: 1; height: 26px; border: 2px solid transparent; padding: 0; background-origin: border-box !important; }
.avlab-atlas .quarter[aria-pressed=true] { border-color: #fff; box-shadow: 0 0 0 2px #222; z-index: 1; }
.avlab-atlas .ends { display: flex; justify-content: space-between; }
.avlab-atlas .selected { margin-top: 6px; padding-top: 6px; border-top: 1px solid #999; }
.avlab-atlas .share { display: grid; grid-template-columns: 5em 1fr 7.5em; gap: 6px; align-items: center; }
.avlab-atlas .share span { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.avlab-atlas .share i { height: 9px; display: block; border: 1px solid #999; box-sizing: border-box; }
.avlab-atlas .tools button, .avlab-atlas .side > button, .avlab-atlas .training button { font: inherit; padding: 4px 10px; cursor: pointer; }
.avlab-atlas .tools button[aria-pressed=true] { box-shadow: inset 0 0 0 2px #0072B2; font-weight: bold; }
.avlab-atlas .side > button { margin: 6px 0; }
.avlab-atlas select { font: inherit; max-width: 130px; }
.avlab-atlas .training input { flex: 1 1 120px; min-width: 0; }
.avlab-atlas .training span { min-width: 6.5em; font-variant-numeric: tabular-nums; }
.avlab-atlas .keys { font-size: 12px; }
.avlab-atlas [hidden] { display: none; }
.avlab-atlas :focus-visible { outline: 3px solid #0072B2; outline-offset: 2px; }`;
const SOUND = "#E07B00", SIGHT = "#0072B2", PAIR = "#A0A0A0", INK = "#222222";
const UNKNOWN = { name: "unknown", color: "#BBBBBB", marker: "o" };
const SHARED = Symbol.for("avlab.sound"); // the same AudioContext as the player's
// matplotlib's markers as stars: number of points, turn in degrees, depth of the notches
const SHAPES = { s: [4, 45], D: [4, 0], "^": [3, -90], v: [3, 90], "<": [3, 180], ">": [3, 0], p: [5, -90], h: [6, 0],
  P: [4, 0, 0.4], X: [4, 45, 0.4] };
const W = 1200, H = 960, EDGE = 60, MARGIN = 48; // pixels of the map; empty ones at its sides, and unseen ones beyond
const LINES = 500; // more pairs than this are too many lines to see anything
const PLAYED = 6, PAUSE = 0.8; // seconds from the first moment to the last; and for each, where nothing may glide
const KEYS = "Arrow keys: next point. Enter: neighbours. Space: play. + and − or the wheel (after a click on the map): "
  + "zoom. Shift and arrows, or drag: move. 0: all. L: lasso. S: select this point. A: select all in view. Escape: clear.";

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

function dot(g, look, sound, x, y, size) { // the ring tells the modality, marker and colour inside the rest
  g.beginPath(); g.arc(x, y, 1.75 * size, 0, 7);
  g.strokeStyle = sound ? SOUND : SIGHT; g.lineWidth = size / 3; g.stroke();
  marker(g, look.marker, x, y, size, look.color);
}

// a point as a list of pixels of a picture `wide` pixels wide: where, counted from the point; colour; how opaque, to 256
function stamp(look, sound, size, wide, opacity) {
  const r = Math.ceil(2 * size) + 1, side = 2 * r + 1, g = new OffscreenCanvas(side, side).getContext("2d", { willReadFrequently: true });
  dot(g, look, sound, r + 0.5, r + 0.5, size);
  const { data } = g.getImageData(0, 0, side, side), where = [], colour = [], share = [];
  for (let i = 0; i < side * side; i++) if (data[4 * i + 3] > 8) {
    where.push((Math.floor(i / side) - r) * wide + i % side - r);
    colour.push(data[4 * i] | data[4 * i + 1] << 8 | data[4 * i + 2] << 16 | 255 << 24);
    share.push(Math.round(data[4 * i + 3] * 256 / 255 * opacity));
  }
  return { where: Int32Array.from(where), colour: Int32Array.from(colour), share: Int32Array.from(share) };
}

function put(pixels, { where, colour, share }, at) { // red and blue in one number: half the work
  for (let i = 0; i < where.length; i++) {
    const j = at + where[i], over = colour[i];
    if (share[i] === 256) { pixels[j] = over; continue; }
    const under = pixels[j], rb = under & 0xff00ff, g = under & 0xff00;
    pixels[j] = 0xff000000 | (rb + (Math.imul((over & 0xff00ff) - rb, share[i]) >> 8)) & 0xff00ff
      | (g + (Math.imul((over & 0xff00) - g, share[i]) >> 8)) & 0xff00;
  }
}

function inside(loop, x, y) { // crossings of the outline to the left of the point: odd inside
  let within = false;
  for (let i = 0, j = loop.length - 1; i < loop.length; j = i++) {
    const [ax, ay] = loop[i], [bx, by] = loop[j];
    if (ay > y !== by > y && x < (bx - ax) * (y - ay) / (by - ay) + ax) within = !within;
  }
  return within;
}

const few = (value) => String(+value.toPrecision(3));
const counted = (n, what) => `${n} ${what}${n === 1 ? "" : "s"}`;

function render({ model, el }) {
  const shared = (globalThis[SHARED] ??= { context: null, stop: null });
  make("style", el, {}, CSS);
  const root = make("div", el, { class: "avlab-atlas", role: "group", "data-lm-suppress-shortcuts": "true",
    "aria-label": "Embedding space of sounds and pictures" });
  const plane = make("div", root, { class: "plane" }), tools = make("div", plane, { class: "row tools" });
  const colour = make("select", make("label", tools, {}, "colour by "), { class: "colour" });
  const tool = (name, text, said) => make("button", tools, { type: "button", class: name, title: said, "aria-label": said }, text);
  const lasso = tool("lasso", "Lasso", "Lasso: drag around points to select them");
  const zooms = [tool("in", "+", "Zoom in"), tool("out", "−", "Zoom out"), tool("all", "All", "Show all points")];
  lasso.setAttribute("aria-pressed", "false");
  const stack = make("div", plane, { class: "stack" });
  const cloud = make("canvas", stack, { class: "cloud", width: W, height: H, "aria-hidden": "true" });
  const map = make("canvas", stack, { class: "map", tabindex: "0", role: "application", width: W, height: H, "aria-label":
    `Map of points. Left and right go to the next pair, up and down change between sound and sight. ${KEYS}` });
  const training = make("div", plane, { class: "row training" });
  const run = make("button", training, { type: "button", class: "run" }, "▶ Play");
  const slider = make("input", training, { type: "range", class: "step", min: 0, step: 0.01, "aria-label": "Moment of the training" });
  const reached = make("span", training);
  make("div", plane, { class: "keys" }, KEYS);
  const side = make("div", root, { class: "side" });
  const frame = make("canvas", side, { class: "frame", role: "img", width: 176, height: 176, "aria-label": "no point chosen" });
  const toggle = make("button", side, { type: "button", class: "hear", "aria-pressed": "false" }, "♪ Sound on hover: off");
  const said = make("div", side, { class: "said", role: "status" }, "Move over a point; click it for its nearest neighbours.");
  const legend = make("div", side, { class: "legend", role: "group", "aria-label": "Legend; a button selects its points" });
  const chosenOnes = make("div", side, { class: "selected", role: "status" });
  const clear = make("button", side, { type: "button", class: "clear" }, "Clear the selection");

  const typed = (v, Type) => new Type(v.buffer.slice(v.byteOffset, v.byteOffset + v.byteLength));
  const view = (name, Type) => typed(model.get(name), Type);
  const moments = view("points", Float32Array), steps = model.get("steps"), S = steps.length;
  const total = moments.length / 2 / S, pairs = total / 2;
  const near = view("near", Int32Array), ranks = view("ranks", Float32Array), count = near.length / ranks.length;
  const sounds = view("sounds", Int16Array), offsets = model.get("offsets"), lut = view("lut", Uint8Array);
  const place = new Map(model.get("heard").map((clip, i) => [clip, i])); // of a clip among those that came along
  const colourings = model.get("colourings").map((one) => ({ ...one, codes: typed(one.values, Int16Array) }));
  const isSound = (p) => p < pairs, clipOf = (p) => p % pairs;
  let paint, hover = -1, source = null, hearing = false, thumbs = null, asked = 0, picked = new Set();
  let now = moments.slice(0, 2 * total), moment = 0, at = 0, drag = null, lassoing = false, waiting = 0, running = 0, sent = 0;

  const codeOf = (p) => { // values come one a pair, or one a point and moment
    const { codes } = paint;
    return codes[codes.length === pairs ? clipOf(p) : moment * total + p];
  };
  const shade = (level) => { const l = 3 * (level & ~3); return `rgb(${lut[l]} ${lut[l + 1]} ${lut[l + 2]})`; }; // 64 are enough
  const lookOf = (code) => code < 0 ? UNKNOWN : paint.entries ? paint.entries[code] ?? UNKNOWN : { color: shade(code), marker: "o" };
  const nameOf = (p) => `${colourings[0].entries[colourings[0].codes[clipOf(p)]]?.name ?? "pair"} ${clipOf(p)}`;
  const label = (p) => `${isSound(p) ? "sound" : "sight"} of ${nameOf(p)}`;
  const nearest = (p) => near.subarray((moment * total + p) * count, (moment * total + p + 1) * count);

  // the window on the plane: equal scale on both axes, wide enough for every moment
  const low = [Infinity, Infinity], high = [-Infinity, -Infinity];
  moments.forEach((v, i) => { low[i & 1] = Math.min(low[i & 1], v); high[i & 1] = Math.max(high[i & 1], v); });
  const scale = Math.min((W - 2 * EDGE) / (high[0] - low[0] || 1), (H - 2 * EDGE) / (high[1] - low[1] || 1));
  const whole = () => ({ x: (low[0] + high[0]) / 2, y: (low[1] + high[1]) / 2, zoom: 1 });
  let seen = whole();
  const spot = (p) => [W / 2 + scale * seen.zoom * (now[2 * p] - seen.x), H / 2 - scale * seen.zoom * (now[2 * p + 1] - seen.y)];
  const onMap = ([x, y]) => x >= 0 && x < W && y >= 0 && y < H;
  const size = () => Math.round(2 * (pairs > 2000 ? 3.5 : pairs > 500 ? 5 : pairs > 150 ? 7 : 10) * Math.min(2, seen.zoom ** 0.3)) / 2;

  const c = cloud.getContext("2d", { willReadFrequently: true }), wide = W + 2 * MARGIN, tall = H + 2 * MARGIN;
  let empty = c.createImageData(wide, tall), stamps = new Map(), stamped = "";

  function drawCloud() {
    const chosen = model.get("selected"), dim = chosen >= 0 || picked.size > 0, s = size(), k = scale * seen.zoom;
    if (stamped !== `${paint.name} ${s}`) { stamps = new Map(); stamped = `${paint.name} ${s}`; }
    let image = empty;
    if (pairs <= LINES) {
      c.fillStyle = "#fff"; c.fillRect(0, 0, W, H);
      c.beginPath();
      for (let b = 0; b < pairs; b++) { c.moveTo(...spot(b)); c.lineTo(...spot(b + pairs)); }
      c.strokeStyle = PAIR; c.lineWidth = 1.5; c.stroke();
      image = c.getImageData(-MARGIN, -MARGIN, wide, tall);
    }
    const pixels = new Int32Array(image.data.buffer);
    if (image === empty) pixels.fill(-1); // opaque white
    for (const top of dim ? [false, true] : [false]) // the selected ones over the others
      for (let i = 0; i < total; i++) {
        const p = (i >> 1) + (i & 1) * pairs; // halves of a pair in turn: no modality hides the other
        if (dim && picked.has(p) !== top) continue;
        const x = Math.floor(W / 2 + k * (now[2 * p] - seen.x)), y = Math.floor(H / 2 - k * (now[2 * p + 1] - seen.y));
        if (x < 0 || y < 0 || x >= W || y >= H) continue;
        const code = codeOf(p), key = 4 * ((paint.entries ? code : code >> 2) + 1) + 2 * isSound(p) + (dim && !top);
        let mark = stamps.get(key);
        if (!mark) stamps.set(key, mark = stamp(lookOf(code), isSound(p), s, wide, dim && !top ? 0.3 : 1));
        put(pixels, mark, (y + MARGIN) * wide + x + MARGIN);
      }
    c.putImageData(image, -MARGIN, -MARGIN);
  }

  function line(g, p, q, colour, width) {
    g.beginPath(); g.moveTo(...spot(p)); g.lineTo(...spot(q));
    g.strokeStyle = colour; g.lineWidth = width; g.stroke();
  }

  function drawMarks() { // what changes with every move of the mouse, over the points
    const g = map.getContext("2d"), chosen = model.get("selected"), marks = chosen < 0 ? [] : [...nearest(chosen)];
    const s = 1.5 * Math.max(6, size());
    g.clearRect(0, 0, W, H);
    for (const q of marks) line(g, chosen, q, INK, 2.5);
    const points = [...marks, chosen, hover].filter((p) => p >= 0);
    for (const p of new Set([hover, chosen])) if (p >= 0) {
      line(g, clipOf(p), clipOf(p) + pairs, PAIR, 7);
      points.unshift(clipOf(p), clipOf(p) + pairs);
    }
    for (const p of points) dot(g, lookOf(codeOf(p)), isSound(p), ...spot(p), s);
    for (const p of new Set([hover, chosen])) if (p >= 0) {
      g.beginPath(); g.arc(...spot(p), 2.4 * s, 0, 7); g.strokeStyle = INK; g.lineWidth = p === hover ? 3 : 1.5; g.stroke();
    }
    g.font = "bold 26px sans-serif"; g.textAlign = "center"; g.lineWidth = 6; g.strokeStyle = "white"; g.fillStyle = INK;
    marks.forEach((q, i) => { const [x, y] = spot(q); g.strokeText(i + 1, x, y - 30); g.fillText(i + 1, x, y - 30); });
    if (drag?.loop) {
      g.beginPath();
      for (const [x, y] of drag.loop) g.lineTo(x, y);
      g.closePath();
      g.fillStyle = "#0072B222"; g.fill(); g.strokeStyle = INK; g.lineWidth = 2.5; g.setLineDash([10, 6]); g.stroke(); g.setLineDash([]);
    }
  }

  const draw = () => { // at most once a frame, however many events there were
    waiting ||= requestAnimationFrame(() => { waiting = 0; drawCloud(); drawMarks(); });
  };

  function tell(p) { // the point's frame, and its place among the answers to its other half
    const g = frame.getContext("2d"), { columns, side: s } = model.get("sheet");
    g.clearRect(0, 0, 176, 176);
    if (p < 0) {
      said.textContent = "Nothing chosen.";
      frame.setAttribute("aria-label", "no point chosen");
      delete root.dataset.point;
      return;
    }
    const clip = clipOf(p), slot = place.get(clip), other = isSound(p) ? "picture" : "sound";
    if (thumbs && slot !== undefined) g.drawImage(thumbs, (slot % columns) * s, Math.floor(slot / columns) * s, s, s, 0, 0, 176, 176);
    frame.setAttribute("aria-label", slot === undefined ? `no frame of ${nameOf(p)}` : `frame of ${nameOf(p)}`);
    const rank = few(ranks[moment * total + p]), when = S > 1 ? ` at step ${few(steps[moment])}` : "";
    const code = paint.entries && paint.name !== "kind" ? ` ${paint.name}: ${lookOf(codeOf(p)).name}.` : "";
    const marked = model.get("selected") === p ? ` Nearest${when}: ${[...nearest(p)].map(nameOf).join("; ")}.` : "";
    const without = slot === undefined ? " Its clip is not here: no frame, no sound." : "";
    said.textContent = `${label(p)}. Its own ${other} is neighbour ${rank}${when}.${code}${without}${marked}`;
    root.dataset.point = p;
  }

  async function play(p) {
    const slot = place.get(clipOf(p));
    if (slot === undefined) return;
    const mine = ++asked;
    shared.context ??= new AudioContext();
    await Promise.race([shared.context.resume(), new Promise((done) => setTimeout(done, 1500))]);
    if (mine !== asked || shared.context.state !== "running") return;
    shared.stop?.();
    shared.stop = hush;
    const [from, to] = [offsets[slot], offsets[slot + 1]], buffer = shared.context.createBuffer(1, to - from, model.get("rate"));
    buffer.getChannelData(0).set(Float32Array.from(sounds.subarray(from, to), (v) => v / 32768));
    source = shared.context.createBufferSource();
    source.buffer = buffer;
    source.connect(shared.context.destination);
    source.start();
    root.dataset.heard = clipOf(p);
  }
  function hush() { asked++; source?.stop(); source = null; }

  const send = (name, value) => { model.set(name, value); model.save_changes(); };
  function choose(p, sounding) {
    hover = p;
    if (model.get("selected") === p) changed.selected(); else send("selected", p);
    if (p >= 0 && sounding) play(p);
  }
  function look(p) {
    if (p === hover) return;
    hover = p;
    drawMarks();
    if (p >= 0) tell(p);
    if (p >= 0 && hearing) play(p);
  }
  function mouse(event) {
    const box = map.getBoundingClientRect();
    return [(event.clientX - box.left) * W / box.width, (event.clientY - box.top) * H / box.height];
  }
  function under([x, y]) {
    let best = -1, least = 30 ** 2;
    for (let p = 0; p < total; p++) {
      const k = scale * seen.zoom, dx = W / 2 + k * (now[2 * p] - seen.x) - x, dy = H / 2 - k * (now[2 * p + 1] - seen.y) - y;
      const d = dx * dx + dy * dy;
      if (d < least) { least = d; best = p; }
    }
    return best;
  }
  function zoom(by, [x, y] = [W / 2, H / 2]) { // what lies under x, y stays there
    const before = scale * seen.zoom;
    seen.zoom = Math.min(200, Math.max(0.5, seen.zoom * by));
    const after = scale * seen.zoom;
    seen.x += (x - W / 2) * (1 / before - 1 / after);
    seen.y -= (y - H / 2) * (1 / before - 1 / after);
    draw();
  }
  function move(x, y) { seen.x -= x / (scale * seen.zoom); seen.y += y / (scale * seen.zoom); draw(); }
  function showAll() { seen = whole(); draw(); }

  // selecting
  const points = () => Array.from({ length: total }, (_, p) => p);
  const pick = (some) => send("selection", [...new Set(some)].sort((a, b) => a - b));
  const flip = (some) => { // a press selects, a second one lets go
    const all = some.every((p) => picked.has(p));
    pick(all ? [...picked].filter((p) => !some.includes(p)) : [...picked, ...some]);
  };
  function setLasso(on) { lassoing = on; lasso.setAttribute("aria-pressed", String(on)); }

  function drawLegend() {
    legend.replaceChildren();
    const swatch = (parent, paintIt) => paintIt(make("canvas", parent, { width: 22, height: 22, "aria-hidden": "true" }).getContext("2d"));
    const row = (paintIt, text) => { const line = make("div", legend, { class: "entry" }); swatch(line, paintIt); make("span", line, {}, text); };
    for (const [ring, text] of [[SOUND, "ring: sound"], [SIGHT, "ring: sight"]])
      row((g) => { g.beginPath(); g.arc(11, 11, 8, 0, 7); g.strokeStyle = ring; g.lineWidth = 2.5; g.stroke(); }, text);
    row((g) => { g.fillStyle = PAIR; g.fillRect(1, 10, 20, 2); }, "a pair");
    const button = (parent, kind, said, fits) => {
      const node = make("button", parent, { type: "button", class: kind, "aria-label": said, title: said });
      node.onclick = () => flip(points().filter((p) => fits(codeOf(p))));
      node.fits = fits;
      return node;
    };
    if (paint.entries) paint.entries.forEach((entry, k) => {
      const node = button(legend, "entry", `select all of ${entry.name}`, (code) => code === k);
      swatch(node, (g) => marker(g, entry.marker, 11, 11, 7, entry.color));
      make("span", node, {}, entry.name);
    });
    else {
      make("div", legend, {}, paint.name === "error" ? `error: rank of the own partner among ${pairs} (log scale)` : paint.name);
      const bar = make("div", legend, { class: "bar" }), value = (q) => few(paint.log ? paint.low * (paint.high / paint.low) ** (q / 4)
        : paint.low + q / 4 * (paint.high - paint.low));
      for (let q = 0; q < 4; q++) {
        const node = button(bar, "quarter", `select ${paint.name} ${value(q)} to ${value(q + 1)}`, (code) => code >= 64 * q && code < 64 * (q + 1));
        node.style.background = `linear-gradient(to right, ${[0, 21, 42, 63].map((l) => shade(64 * q + l)).join(", ")})`;
      }
      const ends = make("div", legend, { class: "ends" });
      for (const q of [0, 2, 4]) make("span", ends, {}, value(q));
    }
    if (paint.codes.some((code) => code < 0)) {
      const node = button(legend, "entry", "select all that are unknown", (code) => code < 0);
      swatch(node, (g) => marker(g, "o", 11, 11, 7, UNKNOWN.color));
      make("span", node, {}, "unknown");
    }
    pressed();
  }
  function pressed() {
    for (const node of legend.querySelectorAll("button")) {
      const mine = picked.size ? points().filter((p) => node.fits(codeOf(p))) : [];
      node.setAttribute("aria-pressed", String(mine.length > 0 && mine.every((p) => picked.has(p))));
    }
  }

  function tellPicked() { // how many, and of which kinds: by the colours shown where these are categories
    chosenOnes.replaceChildren();
    clear.hidden = !picked.size;
    if (!picked.size) { chosenOnes.textContent = "No points selected: use the lasso, or a name in the legend."; return; }
    const heard = [...picked].filter(isSound).length;
    make("div", chosenOnes, {}, `${counted(picked.size, "point")} selected: ${counted(heard, "sound")}, ${counted(picked.size - heard, "sight")}.`);
    const by = paint.entries ? paint : colourings[0], tally = new Map();
    for (const p of picked) { const code = by.codes[clipOf(p)]; tally.set(code, (tally.get(code) ?? 0) + 1); }
    for (const [code, n] of [...tally].sort((a, b) => b[1] - a[1])) {
      const look = by.entries[code] ?? UNKNOWN, row = make("div", chosenOnes, { class: "share" });
      make("span", row, { title: look.name }, look.name);
      make("i", make("div", row)).style.cssText = `width: ${100 * n / picked.size}%; background: ${look.color}`;
      make("span", row, {}, `${n} (${Math.round(100 * n / picked.size)} %)`);
    }
  }

  // the slider counts moments, evenly spaced whatever their steps; places are linear in between
  function locate() {
    const step = model.get("step");
    let i = 0;
    while (i < S - 2 && step >= steps[i + 1]) i++;
    const t = S > 1 ? Math.min(1, Math.max(0, (step - steps[i]) / (steps[i + 1] - steps[i]))) : 0;
    const a = 2 * total * i, b = S > 1 ? a + 2 * total : a, before = moment;
    for (let j = 0; j < 2 * total; j++) now[j] = moments[a + j] + t * (moments[b + j] - moments[a + j]);
    at = i + t;
    moment = Math.round(at);
    slider.value = at;
    reached.textContent = `step ${few(step)}`;
    slider.setAttribute("aria-valuetext", `step ${few(step)}`);
    return moment !== before;
  }
  function go(to, last = true) { // a message to the kernel at most four times a second
    const i = Math.min(Math.floor(to), S - 2), t = to - i;
    model.set("step", t >= 1 ? steps[i + 1] : steps[i] + t * (steps[i + 1] - steps[i]));
    if (last || performance.now() - sent > 250) { sent = performance.now(); model.save_changes(); }
  }
  function halt() {
    cancelAnimationFrame(running);
    running = 0;
    run.textContent = "▶ Play";
  }
  function begin() {
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches, from = at >= S - 1 ? 0 : at;
    let started = null;
    run.textContent = "❚❚ Pause";
    go(from);
    const tick = (time) => {
      started ??= time;
      const past = (time - started) / 1000;
      const to = Math.min(S - 1, still ? Math.floor(from + past / PAUSE) : from + past / PLAYED * (S - 1));
      if (to !== at) go(Math.max(from, to), to >= S - 1);
      if (to >= S - 1) halt(); else running = requestAnimationFrame(tick);
    };
    running = requestAnimationFrame(tick);
  }

  const changed = { // here, in another view, or from Python
    selected: () => { draw(); tell(model.get("selected")); },
    selection: () => { picked = new Set(model.get("selection")); tellPicked(); pressed(); draw(); },
    colour: () => {
      paint = colourings.find((one) => one.name === model.get("colour"));
      colour.value = paint.name;
      drawLegend(); tellPicked(); draw();
    },
    step: () => {
      const other = locate();
      draw();
      if (other) { pressed(); if (root.dataset.point) tell(+root.dataset.point); }
    },
  };

  map.onpointerdown = (event) => {
    if (event.button) return;
    map.setPointerCapture(event.pointerId);
    drag = { from: mouse(event), last: mouse(event), moved: false };
  };
  map.onpointermove = (event) => {
    const here = mouse(event);
    if (!drag) return look(under(here));
    if (!drag.moved && Math.hypot(here[0] - drag.from[0], here[1] - drag.from[1]) < 8) return;
    drag.moved = true;
    if (lassoing) { (drag.loop ??= [drag.from]).push(here); drawMarks(); }
    else move(here[0] - drag.last[0], here[1] - drag.last[1]);
    drag.last = here;
  };
  map.onpointerup = (event) => {
    if (!drag) return;
    const { loop, moved } = drag;
    drag = null;
    if (!moved) return choose(under(mouse(event)), true);
    if (loop) pick([...(event.shiftKey ? picked : []), ...points().filter((p) => inside(loop, ...spot(p)))]);
    drawMarks();
  };
  map.onpointercancel = () => { drag = null; drawMarks(); };
  map.onpointerleave = () => { if (!drag) look(-1); };
  map.addEventListener("wheel", (event) => { // else a page that is scrolled past the map would stop there
    if (document.activeElement !== map && map.getRootNode().activeElement !== map && !event.ctrlKey) return;
    event.preventDefault();
    zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0015)), mouse(event));
  }, { passive: false });
  map.onkeydown = (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const p = Math.max(hover, 0), by = (n) => (clipOf(p) + n + pairs) % pairs + (isSound(p) ? 0 : pairs);
    const step = event.shiftKey ? { ArrowRight: () => move(-80, 0), ArrowLeft: () => move(80, 0), ArrowUp: () => move(0, 80), ArrowDown: () => move(0, -80) }
      : { ArrowRight: () => look(hover < 0 ? 0 : by(1)), ArrowLeft: () => look(hover < 0 ? 0 : by(-1)),
        ArrowUp: () => look(clipOf(p)), ArrowDown: () => look(clipOf(p) + pairs) };
    const act = { ...step, Enter: () => choose(p, true), " ": () => play(p), "+": () => zoom(1.3), "=": () => zoom(1.3),
      "-": () => zoom(1 / 1.3), 0: showAll, l: () => setLasso(!lassoing), L: () => setLasso(!lassoing),
      s: () => { if (hover >= 0) flip([hover]); }, a: () => pick(points().filter((q) => onMap(spot(q)))),
      Escape: () => { if (drag) drag = null; pick([]); choose(-1, false); } }[event.key];
    if (act) { act(); event.preventDefault(); event.stopPropagation(); }
  };
  const hear = (on) => {
    hearing = on;
    toggle.textContent = `♪ Sound on hover: ${on ? "on" : "off"}`;
    toggle.setAttribute("aria-pressed", String(on));
    if (!on) hush();
  };
  toggle.onclick = () => { hear(!hearing); if (hearing) { shared.context ??= new AudioContext(); shared.context.resume(); } };
  lasso.onclick = () => setLasso(!lassoing);
  zooms.forEach((node, i) => { node.onclick = [() => zoom(1.3), () => zoom(1 / 1.3), showAll][i]; });
  clear.onclick = () => { pick([]); map.focus(); };
  colour.onchange = () => send("colour", colour.value);
  run.onclick = () => (running ? (halt(), go(at)) : begin());
  slider.oninput = () => { halt(); go(+slider.value, false); };
  slider.onchange = () => go(+slider.value);
  slider.onkeydown = (event) => { // to the next moment, not a hundredth of the way
    const to = { ArrowRight: Math.floor(at + 1), ArrowUp: Math.floor(at + 1), ArrowLeft: Math.ceil(at - 1), ArrowDown: Math.ceil(at - 1) }[event.key];
    if (to !== undefined) { halt(); go(Math.min(S - 1, Math.max(0, to))); event.preventDefault(); }
    event.stopPropagation();
  };

  for (const one of colourings) make("option", colour, { value: one.name }, one.name);
  slider.max = S - 1;
  training.hidden = S < 2;
  frame.hidden = toggle.hidden = !place.size;
  if (place.size && place.size < pairs) make("div", side, {}, `${place.size} of ${pairs} pairs came with frame and sound.`);
  for (const [name, listener] of Object.entries(changed)) model.on(`change:${name}`, listener);
  picked = new Set(model.get("selection"));
  locate();
  changed.colour();
  drawCloud();
  drawMarks();
  const ready = () => { root.dataset.ready = "true"; if (model.get("selected") >= 0) tell(model.get("selected")); };
  if (place.size) {
    const url = URL.createObjectURL(new Blob([view("thumbs", Uint8Array)])), image = new Image();
    image.onload = () => { thumbs = image; URL.revokeObjectURL(url); ready(); };
    image.onerror = () => { said.textContent = "The frames of these clips cannot be shown."; };
    image.src = url;
  } else ready();
  return () => {
    hush();
    halt();
    cancelAnimationFrame(waiting);
    if (shared.stop === hush) shared.stop = null;
    for (const [name, listener] of Object.entries(changed)) model.off(`change:${name}`, listener);
  };
}

export default { render };
