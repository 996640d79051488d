// The synchronised player: frames from one sprite on a canvas, 16-bit sound through WebAudio, one clock for both
// (AudioContext.currentTime). No codec, no network. The same file serves the notebook (anywidget) and the HTML page.

const CSS = `
.avlab-player { font: 13px/1.4 var(--jp-ui-font-family, "DejaVu Sans", Arial, sans-serif); max-width: 860px; padding: 8px;
  color: var(--jp-ui-font-color1, #222); background: var(--jp-layout-color1, #fff); box-sizing: border-box; }
.avlab-player .row { display: flex; flex-wrap: wrap; gap: 6px 14px; align-items: center; margin-top: 6px; }
.avlab-player .top { align-items: flex-start; }
.avlab-player .side { flex: none; max-width: 100%; }
.avlab-player .stage { display: block; max-width: 100%; image-rendering: pixelated; background: #000; }
.avlab-player .named { font-weight: 600; }
.avlab-player .words { min-height: 1.4em; }
.avlab-player .words .said { font-weight: 700; text-decoration: underline; text-decoration-thickness: 2px; }
.avlab-player .sound { flex: 1 1 300px; min-width: 0; position: relative; }
.avlab-player.compare .sound { flex-basis: 100%; }
.avlab-player .sound canvas { width: 100%; display: block; cursor: pointer; touch-action: pan-y; }
.avlab-player button { font: inherit; padding: 4px 10px; cursor: pointer; color: inherit; border: 1px solid currentColor;
  border-radius: 3px; background: var(--jp-layout-color2, #eee); }
.avlab-player button[aria-pressed=true] { color: var(--jp-layout-color1, #fff); background: var(--jp-ui-font-color1, #222); }
.avlab-player .play { min-width: 86px; }
.avlab-player .seek { flex: 1 1 160px; min-width: 0; }
.avlab-player .time { font-variant-numeric: tabular-nums; }
.avlab-player label, .avlab-player .line { display: inline-flex; gap: 5px; align-items: center; }
.avlab-player .line button { padding: 1px 7px; }
.avlab-player .note { color: var(--jp-error-color0, #b00020); }
.avlab-player [hidden] { display: none; }
.avlab-player :focus-visible, .avlab-player:focus-visible { outline: 3px solid #0072B2; outline-offset: 2px; box-shadow: 0 0 0 2px #fff; }`;

const HELP = [["Space", "play or pause"], ["← →", "one frame back or on (with the picture in focus: move the chosen place, also ↑ ↓)"],
  ["Home, End", "to the start or the end"], ["[ and ]", "the selection begins or ends here; playing stays in it"],
  ["m", "hold the moment that attends, or let it follow the cursor"], ["x", "hear the other clip (side by side)"],
  ["Escape", "clear the place, the held moment, then the selection"], ["?", "show or hide these keys"]];
const LEFT = 64, PLAIN = 288, LANE = 22; // px: room for names, height of waveform, spectrogram and axis, of a row
const ORANGE = "#E07B00", BLUE = "#0072B2";
const bytes = (view) => new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
const SHARED = Symbol.for("avlab.sound"); // one AudioContext a page, and at most one view sounding: its stop and its model

function make(tag, parent, attributes = {}, text = "") {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  if (text) node.textContent = text; // never innerHTML: titles come from files
  parent.append(node);
  return node;
}

function labelled(parent, text, tag, attributes, after = false) {
  const label = make("label", parent);
  if (!after) label.append(text);
  const node = make(tag, label, attributes);
  if (after) label.append(text);
  return node;
}

// ---- what comes from Python ----

const inflate = async (view) => new Uint8Array(
  await new Response(new Blob([view]).stream().pipeThrough(new DecompressionStream("deflate"))).arrayBuffer());

const soundOf = (channels, rate, length, seconds) => // as long as the picture at least, so that both can loop together
  new AudioBuffer({ numberOfChannels: channels, sampleRate: rate, length: Math.max(length, Math.ceil(seconds * rate)) });

// 16-bit PCM WAV with the plain 44-byte header that the Python side writes
function readWav(view, seconds) {
  const channels = view.getUint16(22, true), rate = view.getUint32(24, true), length = view.getUint32(40, true) / 2 / channels;
  const buffer = soundOf(channels, rate, length, seconds);
  for (let c = 0; c < channels; c++) {
    const channel = buffer.getChannelData(c);
    for (let i = 0; i < length; i++) channel[i] = view.getInt16(44 + 2 * (i * channels + c), true) / 32768;
  }
  return buffer;
}

async function readStem({ data, channels, rate }, seconds) { // differences along time: low bytes, then high bytes
  const planes = await inflate(data), half = planes.length / 2, length = half / channels;
  const buffer = soundOf(channels, rate, length, seconds);
  for (let c = 0; c < channels; c++) {
    const channel = buffer.getChannelData(c);
    for (let i = 0, k = c * length, v = 0; i < length; i++, k++) {
      v = ((v + planes[k] + (planes[half + k] << 8)) << 16) >> 16;
      channel[i] = v / 32768;
    }
  }
  return buffer;
}

async function readImage(view, type) {
  const image = new Image(), url = URL.createObjectURL(new Blob([bytes(view)], { type }));
  image.src = url;
  try { await image.decode(); } finally { URL.revokeObjectURL(url); }
  return image;
}

async function read(clip) {
  const sound = clip.stems.length ? clip.stems.map((stem) => readStem(stem, clip.seconds)) : [readWav(clip.wav, clip.seconds)];
  const [sprite, mel, mask, ...buffers] = await Promise.all([readImage(clip.sprite, "image/jpeg"),
    readImage(clip.spectrogram, "image/png"), clip.truth && inflate(clip.truth), ...sound]);
  const lines = buffers.map((buffer, i) => ({ buffer, name: clip.stems[i]?.name ?? "sound", mute: false, solo: false }));
  return { clip, sprite, mel, mask, lines };
}

// ---- grids over the picture ----

// the map of a layer: of frame n, or what a moment in [0, 1) of the clip attends to (in frame n, where it tells frames apart)
function mapOf(layer, n, moment) {
  const [rows, columns] = layer.shape, size = rows * columns, all = bytes(layer.data);
  const times = layer.moments || 1, frames = all.length / size / times; // heat: one time, N frames
  const from = (Math.min(times - 1, Math.floor(moment * times)) * frames + (frames > 1 ? n : 0)) * size;
  return all.subarray(from, from + size);
}

const manyFrames = (layer) => layer?.moments && bytes(layer.data).length > layer.moments * layer.shape[0] * layer.shape[1];

// a place over time: its heat in each frame, or the weight that each moment gives it (in frame n)
function curveOf(layer, place, n) {
  const size = layer.shape[0] * layer.shape[1], count = layer.moments || bytes(layer.data).length / size;
  return Uint8Array.from({ length: count }, (_, k) => (layer.moments ? mapOf(layer, n, (k + 0.5) / count) : mapOf(layer, k, 0))[place]);
}

// the largest value of each map over time: what is heard of a layer when no place is chosen
function largestOf(layer, frames) {
  const count = layer.moments || frames;
  return Uint8Array.from({ length: count }, (_, k) => Math.max(...mapOf(layer, Math.floor((k + 0.5) / count * frames), (k + 0.5) / count)));
}

function fill(g, values, [rows, columns], lut, opacity, W, H) {
  const small = new OffscreenCanvas(columns, rows), s = small.getContext("2d"), grid = s.createImageData(columns, rows);
  values.forEach((v, i) => { // low heat lets the picture through
    for (let c = 0; c < 3; c++) grid.data[4 * i + c] = lut[3 * v + c];
    grid.data[4 * i + 3] = 255 * opacity * (v / 255) ** 0.7;
  });
  s.putImageData(grid, 0, 0);
  g.imageSmoothingEnabled = true;
  g.drawImage(small, 0, 0, W, H);
}

function smooth(values, [rows, columns], w, h) { // a map at the picture's size, between its cells as `fill` draws it
  const at = (y, x) => values[Math.min(rows - 1, Math.max(0, y)) * columns + Math.min(columns - 1, Math.max(0, x))];
  return (x, y) => {
    const u = (x + 0.5) / w * columns - 0.5, v = (y + 0.5) / h * rows - 0.5, i = Math.floor(u), j = Math.floor(v);
    const upper = at(j, i) * (1 - u + i) + at(j, i + 1) * (u - i), lower = at(j + 1, i) * (1 - u + i) + at(j + 1, i + 1) * (u - i);
    return upper * (1 - v + j) + lower * (v - j);
  };
}

function outline(g, inside, w, h, sx, sy, inner, dash = []) { // the edge between pixels inside and not, on black
  const on = (x, y) => x >= 0 && y >= 0 && x < w && y < h && inside(x, y);
  g.beginPath();
  for (let y = 0; y <= h; y++) for (let x = 0; x <= w; x++) {
    const here = on(x, y);
    if (here != on(x - 1, y)) { g.moveTo(x * sx, y * sy); g.lineTo(x * sx, (y + 1) * sy); }
    if (here != on(x, y - 1)) { g.moveTo(x * sx, y * sy); g.lineTo((x + 1) * sx, y * sy); }
  }
  for (const [style, width] of [["black", 4], [inner, 1.8]]) {
    g.setLineDash(style === inner ? dash : []);
    g.strokeStyle = style;
    g.lineWidth = width;
    g.stroke();
  }
  g.setLineDash([]);
}

function arrows(g, { shape: [rows, columns], data }, n, W, H) { // the fastest place of the clip moves one cell
  const all = new Int8Array(data.buffer, data.byteOffset, data.byteLength), cell = Math.min(W / columns, H / rows);
  g.beginPath();
  for (let k = 0; k < rows * columns; k++) {
    const at = 2 * (n * rows * columns + k), dx = all[at] / 127 * cell, dy = all[at + 1] / 127 * cell, long = Math.hypot(dx, dy);
    if (long < 0.06 * cell) continue;
    const x = (k % columns + 0.5) * W / columns + dx / 2, y = (Math.floor(k / columns) + 0.5) * H / rows + dy / 2;
    g.moveTo(x - dx, y - dy);
    g.lineTo(x, y);
    for (const turn of [2.6, -2.6]) { // the head
      const c = Math.cos(turn) * 0.4, s = Math.sin(turn) * 0.4;
      g.moveTo(x, y);
      g.lineTo(x + c * dx - s * dy, y + s * dx + c * dy);
    }
  }
  for (const [style, width] of [["white", 4], [BLUE, 2]]) { g.strokeStyle = style; g.lineWidth = width; g.stroke(); }
}

// ---- the sound's picture ----

function shortened(g, text, width) {
  if (g.measureText(text).width <= width) return text;
  while (text.length > 1 && g.measureText(`${text}…`).width > width) text = text.slice(0, -1);
  return `${text}…`;
}

function lane(g, values, x, y, width, height, colour) { // a row of values 0 to 255 over the clip's time, from below
  g.fillStyle = colour;
  for (let i = 0; i < width; i++) {
    const up = values[Math.floor(i / width * values.length)] / 255 * height;
    if (up) g.fillRect(x + i, y + height - up, 1, up);
  }
}

function waveform(g, lines, seconds, left, width) { // the sum of all lines: the mix
  const { sampleRate: rate, numberOfChannels: count, length } = lines[0].buffer, mix = [];
  for (let c = 0; c < count; c++) {
    const sum = new Float32Array(length);
    for (const { buffer } of lines) buffer.getChannelData(c).forEach((v, i) => { sum[i] += v; });
    mix.push(sum);
  }
  const bins = Array.from({ length: Math.ceil(width) }, (_, x) => {
    const from = Math.floor(x / width * seconds * rate), to = Math.max(from + 1, Math.floor((x + 1) / width * seconds * rate));
    let low = 0, high = 0;
    for (const channel of mix) for (const v of channel.subarray(from, to)) { low = Math.min(low, v); high = Math.max(high, v); }
    return [low, high];
  });
  const peak = bins.flat().reduce((most, v) => Math.max(most, Math.abs(v)), 1e-3);
  g.fillStyle = ORANGE;
  bins.forEach(([low, high], x) => g.fillRect(left + x, 21 - 20 * high / peak, 1, Math.max(1, 20 * (high - low) / peak)));
}

function tone(values, seconds) { // a soft tone whose level follows the values (0 to 255) over the clip's time
  const rate = 22050, buffer = soundOf(1, rate, 1, seconds), wave = buffer.getChannelData(0), last = values.length - 1;
  for (let i = 0; i < wave.length; i++) {
    const u = Math.min(last, Math.max(0, i / rate / seconds * values.length - 0.5)), k = Math.floor(u);
    const level = (values[k] * (1 - u + k) + values[Math.min(last, k + 1)] * (u - k)) / 255;
    wave[i] = 0.1 * level * Math.sin(2 * Math.PI * 440 * i / rate);
  }
  return buffer;
}

function render({ model, el }) {
  const shared = (globalThis[SHARED] ??= { context: null, stop: null });
  const clips = model.get("clips"), compare = model.get("compare"), lut = bytes(model.get("lut")); // lut: 256 x RGB
  make("style", el, {}, CSS);
  const root = make("div", el, { class: `avlab-player${compare ? " compare" : ""}`, tabindex: "0", role: "group",
    "data-lm-suppress-shortcuts": "true",
    "aria-label": "Clip player. Space plays or pauses, arrow keys step one frame, Home and End jump, question mark tells all keys." });
  const top = make("div", root, { class: "row top" });
  const sides = clips.slice(0, compare ? 2 : 1).map((_, i) => {
    const box = make("div", top, { class: "side" });
    const named = make("div", box, { class: "named" });
    named.hidden = !compare;
    const stage = make("canvas", box, { class: "stage", role: "img" });
    return { letter: "AB"[i], named, stage, words: make("div", box, { class: "words" }), still: document.createElement("canvas") };
  });
  for (const side of sides) side.picture = make("canvas", make("div", top, { class: "sound" }), { role: "img" });
  const bar = make("div", root, { class: "row" });
  const button = make("button", bar, { type: "button", class: "play", "aria-label": "Play" }, "▶ Play");
  const back = make("button", bar, { type: "button", class: "back", "aria-label": "One frame back" }, "‹");
  const on = make("button", bar, { type: "button", class: "on", "aria-label": "One frame on" }, "›");
  const seek = make("input", bar, { type: "range", class: "seek", min: 0, step: "any", "aria-label": "Seek (seconds)" });
  const clock = make("span", bar, { class: "time" });
  const loop = labelled(bar, "loop", "input", { type: "checkbox", class: "loop" }, true);
  const speed = labelled(bar, "speed (pitch falls with it)", "select", { class: "speed" });
  const swap = make("button", bar, { type: "button", class: "swap", "aria-label": "Hear the other clip (x)" });
  swap.hidden = !compare;
  const tools = make("div", root, { class: "row" });
  const choose = labelled(tools, "clip", "select", { class: "clip" });
  const layer = labelled(tools, "heat", "select", { class: "layer" });
  const opacity = labelled(tools, "opacity", "input", { type: "range", min: 0, max: 1, step: 0.05, class: "opacity" });
  const threshold = labelled(tools, "heat outlined from", "input", { type: "range", min: 0, max: 1, step: 0.05, class: "threshold" });
  const hold = make("button", tools, { type: "button", class: "hold", "aria-pressed": "false", "aria-label": "hold moment (m)" }, "hold moment (m)");
  const truth = labelled(tools, "truth", "input", { type: "checkbox", class: "truth" }, true);
  const shows = Object.fromEntries(["onsets", "flow", "words"].map((name) =>
    [name, labelled(tools, name, "input", { type: "checkbox", class: name }, true)]));
  const heard = make("div", root, { class: "row" });
  const listen = labelled(heard, "as a tone", "select", { class: "listen" });
  const hear = make("button", heard, { type: "button", class: "hear", "aria-pressed": "false", "aria-label": "Hear it as a tone" }, "♪ Hear it");
  const mixer = make("span", heard, { class: "row mixer", role: "group", "aria-label": "Lines of the sound" });
  const told = make("div", root, { class: "told", role: "status" });
  const note = make("div", root, { class: "note", role: "status" });
  const help = make("div", root, { class: "help" });
  help.hidden = true;
  HELP.forEach(([key, what], i) => { make("kbd", help, {}, key); help.append(` ${what}${i < HELP.length - 1 ? " · " : ""}`); });

  let side = sides[0], ready = false; // the side that is heard
  let at = 0, playing = [], begun = 0, stop = 0, first = 0, rate = 1, shown = "", sent = 0, own = null, frameId = 0;
  let place = null, held = null, draft = null; // chosen place [row, column], held moment (s), selection being dragged
  let asked = 0, wanted = 0; // count what was asked to play and to load: a late answer to an earlier question is dropped

  // ---- time: what is heard now, from the clock of the sound ----

  const seconds = () => side.clip.seconds;
  const selection = () => draft ?? model.get("selection");
  const part = () => (selection().length ? selection() : [0, seconds()]);
  const now = () => {
    if (!playing.length) return at;
    const late = shared.context.outputLatency || 0; // what is heard left the clock this long ago
    const time = at + rate * Math.max(0, shared.context.currentTime - begun - late);
    return time < stop ? time : playing[0].source.loop ? first + (time - stop) % (stop - first) : stop;
  };
  const tell = (time, force) => { // at most four times a second: each is a message to the kernel
    if (!force && performance.now() - sent < 250) return;
    sent = performance.now();
    own = Math.round(time * 1000) / 1000;
    put("time", own);
  };
  const put = (name, value) => { model.set(name, value); model.save_changes(); };
  const frameAt = (time) => Math.min(side.clip.frames - 1, Math.max(0, Math.floor(time * side.clip.fps + 1e-6)));
  const layerOf = (one) => one.clip.layers.find(({ name }) => name === layer.value);
  const momentAt = (time) => Math.min(0.999999, (held ?? time) / seconds());

  // ---- picture ----

  function drawStage(one, n, moment) {
    const { clip, stage } = one, g = stage.getContext("2d"), { width: w, height: h } = clip, W = stage.width, H = stage.height;
    g.imageSmoothingEnabled = false;
    const [tall, wide] = clip.pitch; // of a tile; the frame is its upper left part
    g.drawImage(one.sprite, (n % clip.columns) * wide, Math.floor(n / clip.columns) * tall, w, h, 0, 0, W, H);
    const heat = layerOf(one), known = truth.checked;
    if (heat) {
      const values = mapOf(heat, n, moment), [rows, columns] = heat.shape;
      fill(g, values, heat.shape, lut, +opacity.value, W, H);
      const least = +threshold.value * 255, value = smooth(values, heat.shape, w, h);
      if (least > 0) outline(g, (x, y) => value(x, y) >= least - 1e-6, w, h, W / w, H / h, "#FDE725", [6, 4]);
      if (place) {
        const [row, column] = place, [x, y, a, b] = [column * W / columns, row * H / rows, W / columns, H / rows];
        for (const [style, width] of [["black", 6], ["white", 4], [BLUE, 2]]) {
          g.strokeStyle = style;
          g.lineWidth = width;
          g.strokeRect(x, y, a, b);
        }
      }
    }
    if (clip.flow && shows.flow.checked && (known || !clip.flow.known)) arrows(g, clip.flow, n, W, H);
    if (one.mask && known) {
      const start = n * w * h, inside = (x, y) => (one.mask[(start + y * w + x) >> 3] >> (7 - ((start + y * w + x) & 7))) & 1;
      outline(g, inside, w, h, W / w, H / h, "white");
    }
    const which = heat ? `, ${heat.moments ? "attention" : "heat"} of ${heat.name}` : "";
    stage.setAttribute("aria-label", `${clip.title}, frame ${n + 1} of ${clip.frames}${which}`);
  }

  function write(one) { // the words that are said, or the caption
    one.words.replaceChildren();
    one.spoken = [];
    if (!shows.words.checked || !truth.checked) return;
    if (!one.clip.words.length) one.words.textContent = one.clip.caption;
    for (const [from, to, name] of one.clip.words) {
      one.spoken.push([from, to, make("span", one.words, {}, name)]);
      one.words.append(" ");
    }
  }

  const rowsOf = (one) => one.clip.rows.filter((row) => truth.checked || !row.known);

  function fit() { // as many canvas pixels as the page shows, so that text stays sharp
    for (const one of sides) fitSide(one);
  }

  function fitSide(one) { // waveform above, then spectrogram, rows, and a curve of the chosen place; all but the cursor
    const { clip, still, picture } = one;
    if (!clip) return;
    const rows = rowsOf(one), heat = layerOf(one), high = PLAIN + LANE * (rows.length + !!heat), ratio = devicePixelRatio;
    picture.style.height = `${high}px`;
    still.width = picture.width = Math.max(200, Math.round(picture.clientWidth * ratio));
    still.height = picture.height = Math.round(high * ratio);
    const g = still.getContext("2d"), W = still.width / ratio, left = LEFT, wide = W - left, split = 50, foot = PLAIN - 20;
    const ink = getComputedStyle(root).color, middle = () => { g.textAlign = "right"; g.textBaseline = "middle"; g.fillStyle = ink; };
    g.scale(ratio, ratio);
    waveform(g, one.lines.filter((line) => !line.tone), clip.seconds, left, wide);
    g.imageSmoothingEnabled = false;
    g.drawImage(one.mel, left, split, wide, foot - split);
    g.font = "12px sans-serif";
    middle();
    g.fillText("sound", left - 6, 21);
    for (const [up, name] of clip.ticks) g.fillText(name, left - 6, Math.max(split + 5, foot - up * (foot - split)));
    if (truth.checked && shows.onsets.checked) for (const [time, object] of clip.onsets) {
      const x = left + time / clip.seconds * wide;
      g.beginPath(); // a triangle that points up at the waveform
      g.moveTo(x, 36); g.lineTo(x + 5, 48); g.lineTo(x - 5, 48); g.closePath();
      for (const [style, width] of [["white", 4], ["#333", 1.5]]) { g.strokeStyle = style; g.lineWidth = width; g.stroke(); }
      g.fillStyle = model.get("colours")[object % 9];
      g.fill();
    }
    const track = (name, values, k, y = foot + 4 + k * LANE) => {
      g.fillStyle = "rgba(128, 128, 128, 0.25)";
      g.fillRect(left, y, wide, LANE - 4);
      if (values) lane(g, values, left, y, wide, LANE - 4, ORANGE);
      middle();
      g.fillText(shortened(g, name, left - 8), left - 6, y + LANE / 2 - 2);
    };
    rows.forEach((row, k) => {
      track(row.name, bytes(row.data), k);
      if (!row.known) return;
      g.fillStyle = model.get("colours")[k % 9]; // the colour of the object's onsets
      g.fillRect(left, foot + 4 + k * LANE, 4, LANE - 4);
    });
    if (heat) {
      const best = place && curveOf(heat, place[0] * heat.shape[1] + place[1], frameAt(now()));
      const most = best ? Math.max(1, ...best) : 1; // the curve of a place fills its row: it is the shape that tells
      track("place", best && best.map((v) => v * 255 / most), rows.length);
      if (!place) { g.textAlign = "left"; g.fillText(shortened(g, "click a place in the picture", wide - 8), left + 6, foot + 13 + rows.length * LANE); }
    }
    g.textBaseline = "top";
    g.fillStyle = ink;
    const step = [0.1, 0.25, 0.5, 1, 2, 5, 10, 30].find((s) => clip.seconds / s <= wide / 55) ?? 60;
    for (let t = 0; t <= clip.seconds + 1e-9; t += step) {
      const x = left + t / clip.seconds * wide;
      g.textAlign = t === 0 ? "left" : x > W - 30 ? "right" : "center";
      g.fillText(`${+t.toFixed(2)} s`, x, high - 15);
    }
    const names = [...rows.map((row) => row.name), ...(heat ? ["the chosen place"] : [])].join(", ");
    picture.setAttribute("aria-label", `Waveform and spectrogram with a cursor${names ? `, below them rows of ${names}` : ""}; `
      + "click to seek, drag to select");
  }

  function drawSound(one, time) {
    const ratio = devicePixelRatio, { picture, still } = one, g = picture.getContext("2d");
    const W = picture.width / ratio, H = picture.height / ratio - 20, wide = W - LEFT - 2;
    g.setTransform(1, 0, 0, 1, 0, 0);
    g.clearRect(0, 0, picture.width, picture.height);
    g.drawImage(still, 0, 0);
    g.scale(ratio, ratio);
    const x = (t) => LEFT + t / seconds() * wide;
    if (selection().length) {
      const [lo, hi] = selection().map(x);
      g.fillStyle = "rgba(110, 110, 110, 0.6)"; // what is not selected
      g.fillRect(LEFT, 0, lo - LEFT, H);
      g.fillRect(hi, 0, LEFT + wide - hi, H);
    }
    const bar = (t, inner) => [["#000", 4], [inner, 2]].forEach(([style, width]) => { g.fillStyle = style; g.fillRect(x(t) - width / 2 + 1, 0, width, H); });
    if (held !== null) bar(held, "#F5B041");
    bar(time, "#fff");
  }

  function draw(force = false) {
    if (!ready) return;
    const time = Math.min(now(), seconds()), n = frameAt(time), moment = momentAt(time);
    const state = sides.map((one) => `${n} ${Math.floor(moment * (layerOf(one)?.moments ?? 0))}`).join();
    if (state !== shown || force) {
      shown = state;
      for (const one of sides) drawStage(one, n, moment);
      if (place && sides.some((one) => manyFrames(layerOf(one)))) fit(); // who attends to the place in this frame
    }
    for (const one of sides) {
      drawSound(one, time);
      for (const [from, to, word] of one.spoken) word.classList.toggle("said", from <= time && time < to);
    }
    seek.value = time;
    seek.setAttribute("aria-valuetext", `${time.toFixed(2)} of ${seconds().toFixed(2)} seconds`);
    clock.textContent = `${time.toFixed(2)} / ${seconds().toFixed(2)} s`;
    root.dataset.time = time.toFixed(3);
  }

  const redraw = () => { fit(); draw(true); };

  // ---- sound ----

  function level(one, line) {
    const alone = one.lines.some((other) => other.solo);
    return one === side && (alone ? line.solo : !line.mute) ? 1 : 0;
  }

  function silence() {
    for (const { source, gain } of playing) { source.stop(); source.disconnect(); gain.disconnect(); }
    playing = [];
  }

  function sounding(on) {
    button.textContent = on ? "❚❚ Pause" : "▶ Play";
    button.setAttribute("aria-label", on ? "Pause" : "Play");
    if (on) [shared.stop, shared.model] = [pause, model];
    else if (shared.stop === pause) shared.stop = shared.model = null;
    if (model.get("playing") !== on) put("playing", on);
  }

  function start(from) { // all lines and the clock begin together; levels as in the clip, never louder
    const { context } = shared, [lo, hi] = part();
    at = loop.checked && from >= hi ? lo : from;
    [first, stop] = at < hi ? [lo, hi] : [0, seconds()];
    rate = model.get("speed");
    begun = context.currentTime;
    playing = sides.flatMap((one) => one.lines.map((line) => {
      const source = context.createBufferSource(), gain = context.createGain();
      source.buffer = line.buffer;
      source.playbackRate.value = rate;
      [source.loop, source.loopStart, source.loopEnd] = [loop.checked, first, stop];
      gain.gain.value = level(one, line);
      source.connect(gain).connect(context.destination);
      if (loop.checked) source.start(begun, at);
      else source.start(begun, at, stop - at);
      return { source, gain, one, line };
    }));
  }

  function balance() { // what is heard of what plays: time goes on
    for (const { gain, one, line } of playing) gain.gain.setTargetAtTime(level(one, line), shared.context.currentTime, 0.008);
  }

  function tick() {
    if (!playing.length) return;
    if (now() >= stop && !playing[0].source.loop) {
      at = stop;
      silence();
      draw();
      tell(at, true);
      return sounding(false);
    }
    draw();
    tell(now());
    frameId = requestAnimationFrame(tick);
  }

  async function play() {
    if (playing.length || !ready) return;
    const mine = ++asked;
    shared.context ??= new AudioContext();
    note.textContent = "";
    const started = shared.context.resume();
    await Promise.race([started, new Promise((done) => setTimeout(done, 1500))]);
    if (mine !== asked || playing.length) return; // paused, or another clip chosen, meanwhile
    if (shared.context.state !== "running") {
      note.textContent = "The browser holds back sound until you press Play yourself.";
      return sounding(false);
    }
    shared.stop?.();
    const [lo, hi] = part();
    start(at < lo || at >= hi - 1e-3 ? lo : at);
    sounding(true);
    tick();
  }

  function pause() {
    asked++;
    if (playing.length) { at = Math.min(now(), seconds()); silence(); }
    cancelAnimationFrame(frameId);
    draw();
    tell(at, true);
    sounding(false);
  }

  function go(time) {
    if (!ready) return;
    const on = playing.length > 0;
    silence();
    at = Math.min(Math.max(0, time), seconds());
    if (on && at < seconds()) start(at); // a running tick goes on with the new sources
    else if (on) return pause();
    draw();
    tell(at, true);
  }

  const again = () => { if (playing.length) go(now()); }; // with another loop, speed or line: from here on
  const step = (by) => { if (playing.length) pause(); go((frameAt(at) + by + 0.001) / side.clip.fps); };

  // ---- lines: stems, and a tone that follows a row ----

  function mix() { // a line with solo and mute for each part of the sound that is heard
    mixer.replaceChildren();
    mixer.hidden = side.lines.length < 2 || (!truth.checked && side.clip.stems.length > 0);
    for (const line of side.lines) {
      const group = make("span", mixer, { class: "line" }, line.name);
      for (const [name, what] of [["solo", "S"], ["mute", "M"]]) {
        const press = make("button", group, { type: "button", class: name, title: name, "aria-label": `${name} ${line.name}`, "aria-pressed": line[name] }, what);
        press.onclick = () => { line[name] = !line[name]; press.setAttribute("aria-pressed", line[name]); balance(); };
      }
    }
  }

  function hum() { // the tone of the chosen row, or of the heat: one more line of each side
    const wished = hear.getAttribute("aria-pressed") === "true" && !hear.hidden;
    for (const one of sides) {
      const old = one.lines.find((line) => line.tone), heat = layerOf(one);
      one.lines = one.lines.filter((line) => !line.tone);
      const row = rowsOf(one).find(({ name }) => `row ${name}` === listen.value);
      const values = row ? bytes(row.data) : !heat ? null
        : place ? curveOf(heat, place[0] * heat.shape[1] + place[1], frameAt(now())) : largestOf(heat, one.clip.frames);
      if (wished && values) {
        const buffer = tone(values, one.clip.seconds);
        one.lines.push({ buffer, name: `tone of ${listen.selectedOptions[0].textContent}`, tone: true, mute: old?.mute ?? false, solo: old?.solo ?? false });
      }
    }
    mix();
    again();
  }

  function offer() { // what can be heard as a tone
    const kept = listen.value, heat = sides.some(layerOf);
    listen.replaceChildren();
    if (heat) make("option", listen, { value: "heat" }, place ? "the chosen place" : "the largest heat");
    const names = new Set(sides.flatMap((one) => rowsOf(one).map((row) => row.name)));
    for (const name of names) make("option", listen, { value: `row ${name}` }, name);
    if ([...listen.options].some((option) => option.value === kept)) listen.value = kept;
    hear.hidden = listen.parentNode.hidden = !listen.options.length;
    hum();
  }

  function listenTo(index) { // side by side: the other sound, at the same time
    side = sides[index];
    const [heardNow, other] = index ? ["B", "A"] : ["A", "B"];
    swap.textContent = `Hear ${other} (x)`;
    swap.setAttribute("aria-label", swap.textContent);
    for (const one of sides) one.named.textContent = `${one.letter}: ${one.clip.title}${one === side ? " (heard)" : ""}`;
    told.textContent = `${heardNow} is heard.`;
    mix();
    balance();
    draw();
  }

  // ---- places and moments ----

  function pick(row, column) { // a place of the picture, or none
    const heat = layerOf(side), same = place && place[0] === row && place[1] === column;
    place = heat && row !== undefined && !same ? [row, column] : null;
    const value = place && mapOf(heat, frameAt(now()), momentAt(now()))[row * heat.shape[1] + column] / 255;
    told.textContent = place ? `Place in row ${row + 1}, column ${column + 1}: ${value.toFixed(2)} now.` : "";
    offer();
    redraw();
  }

  function movePlace(down, right) {
    const [rows, columns] = layerOf(side).shape, [row, column] = place ?? [Math.floor(rows / 2) - down, Math.floor(columns / 2) - right];
    const to = [Math.min(rows - 1, Math.max(0, row + down)), Math.min(columns - 1, Math.max(0, column + right))];
    if (!place || to[0] !== row || to[1] !== column) pick(...to);
  }

  function pin(time) {
    held = time;
    hold.setAttribute("aria-pressed", time !== null);
    told.textContent = time === null ? "" : `The moment at ${time.toFixed(2)} s is held: the picture shows what it attends to.`;
    draw(true);
  }

  function select(from, to) {
    put("selection", to - from > 1e-3 ? [from, to] : []);
    told.textContent = model.get("selection").length ? `Selected ${from.toFixed(2)} to ${to.toFixed(2)} s.` : "";
  }

  function clear() {
    if (place) return pick();
    if (held !== null) return pin(null);
    select(0, 0);
  }

  // ---- clips ----

  async function load(index) {
    if (compare && ready) return listenTo(index);
    if (playing.length) pause();
    const mine = ++wanted;
    try {
      const parts = await Promise.all(compare ? clips.map(read) : [read(clips[index])]);
      if (mine === wanted) open(index, parts);
    } catch (error) {
      note.textContent = `This clip cannot be shown: ${error.message}`;
    }
  }

  function open(index, parts) {
    if (playing.length) pause(); // the clip before this one was started while this one came
    const stale = ready && !compare;
    parts.forEach((one, i) => Object.assign(sides[i], one));
    if (compare) side = sides[index];
    if (stale && selection().length) put("selection", []);
    [place, held, ready] = [null, null, true];
    hold.setAttribute("aria-pressed", "false");
    const wide = compare ? 410 : 432; // px: a picture is 288 high, or so wide
    for (const one of sides) {
      const { clip, stage } = one;
      stage.style.width = `${Math.min(wide, Math.round(288 * clip.width / clip.height))}px`;
      stage.width = Math.round(parseFloat(stage.style.width) * devicePixelRatio);
      stage.height = Math.round(stage.width * clip.height / clip.width);
      one.stage.parentNode.style.width = stage.style.width; // titles and captions wrap
      write(one);
    }
    seek.max = seconds();
    const kept = layer.selectedIndex > 0 ? layer.value : model.get("layer"), layers = sides.flatMap((one) => one.clip.layers);
    layer.replaceChildren();
    for (const name of new Set(["none", ...layers.map(({ name }) => name)])) make("option", layer, {}, name);
    layer.value = kept;
    if (layer.selectedIndex < 0) layer.selectedIndex = 0;
    for (const control of [layer, opacity, threshold]) control.parentNode.hidden = !layers.length;
    const some = (test) => sides.some((one) => test(one.clip));
    shows.flow.parentNode.hidden = !some((clip) => clip.flow);
    shows.onsets.parentNode.hidden = !some((clip) => clip.onsets.length);
    shows.words.parentNode.hidden = !some((clip) => clip.words.length || clip.caption);
    truth.parentNode.hidden = !some((clip) => clip.truth || clip.onsets.length || clip.words.length || clip.caption || clip.rows.some((row) => row.known));
    const { flow } = side.clip;
    shows.flow.parentNode.title = flow ? `the longest arrow is ${flow.most.toFixed(1)} px a frame` : "";
    at = Math.min(at, seconds());
    choose.selectedIndex = index;
    root.dataset.layers = layers.length;
    root.dataset.ready = "true";
    changed();
    if (compare) listenTo(index);
    tell(at, true);
  }

  function changed() { // another layer, or truth shown or hidden
    const attends = sides.some((one) => layerOf(one)?.moments);
    hold.hidden = !attends;
    for (const one of sides) {
      if (layerOf(one)) { one.stage.tabIndex = 0; one.stage.style.cursor = "crosshair"; }
      else { one.stage.removeAttribute("tabindex"); one.stage.style.cursor = ""; }
      write(one);
    }
    if (place) {
      const shape = layerOf(side)?.shape;
      if (!shape || place[0] >= shape[0] || place[1] >= shape[1]) place = null;
    }
    offer();
    redraw();
  }

  // ---- controls ----

  clips.forEach((one, i) => make("option", choose, { value: i }, one.title));
  choose.parentNode.hidden = compare || clips.length < 2;
  for (const value of [0.25, 0.5, 0.75, 1]) make("option", speed, { value }, `${value}×`);
  const boxes = { truth, loop, ...shows }, sliders = { opacity, threshold };
  const follow = () => { // what Python says
    for (const [name, box] of Object.entries(boxes)) box.checked = model.get(name);
    for (const [name, slider] of Object.entries(sliders)) slider.value = model.get(name);
    speed.value = model.get("speed");
  };
  follow();
  button.onclick = () => (playing.length ? pause() : play());
  back.onclick = () => step(-1);
  on.onclick = () => step(1);
  swap.onclick = () => put("index", 1 - model.get("index"));
  seek.oninput = () => go(+seek.value);
  speed.onchange = () => put("speed", +speed.value);
  choose.onchange = () => { pause(); at = 0; put("index", choose.selectedIndex); };
  layer.onchange = () => put("layer", layer.value);
  for (const [name, box] of Object.entries(boxes)) box.onchange = () => put(name, box.checked);
  for (const [name, slider] of Object.entries(sliders)) slider.oninput = () => put(name, +slider.value);
  hold.onclick = () => pin(held === null ? now() : null);
  listen.onchange = () => hum();
  hear.onclick = () => { hear.setAttribute("aria-pressed", hear.getAttribute("aria-pressed") !== "true"); hum(); };
  for (const one of sides) {
    one.stage.onclick = (event) => {
      const shape = layerOf(one)?.shape, box = one.stage.getBoundingClientRect();
      if (shape) pick(Math.floor((event.clientY - box.top) / box.height * shape[0]), Math.floor((event.clientX - box.left) / box.width * shape[1]));
    };
    const timeOf = (event) => {
      const box = one.picture.getBoundingClientRect();
      return Math.min(1, Math.max(0, (event.clientX - box.left - LEFT) / (box.width - LEFT))) * seconds();
    };
    let from = null;
    one.picture.onpointerdown = (event) => { from = event.clientX; one.picture.setPointerCapture(event.pointerId); one.pressed = timeOf(event); };
    one.picture.onpointermove = (event) => {
      if (from === null || (!draft && Math.abs(event.clientX - from) < 5)) return;
      draft = [one.pressed, timeOf(event)].sort((a, b) => a - b);
      draw();
    };
    one.picture.onpointerup = (event) => {
      if (from === null) return;
      const chosen = draft;
      from = draft = null;
      if (chosen) select(...chosen);
      else go(timeOf(event));
    };
    one.picture.onpointercancel = () => { from = draft = null; draw(); };
  }
  root.addEventListener("keydown", (event) => {
    const { target, key } = event;
    if (!ready || target.tagName === "SELECT" || Object.values(sliders).includes(target) || event.ctrlKey || event.metaKey || event.altKey) return;
    const pressed = target.tagName === "BUTTON" || target.type === "checkbox"; // space is theirs
    const onStage = sides.find((one) => one.stage === target) && layerOf(side);
    const [lo, hi] = part(), time = now();
    const act = { " ": pressed ? null : () => button.onclick(), Home: () => go(0), End: () => go(seconds()),
      ArrowRight: () => (onStage ? movePlace(0, 1) : step(1)), ArrowLeft: () => (onStage ? movePlace(0, -1) : step(-1)),
      ArrowUp: onStage && (() => movePlace(-1, 0)), ArrowDown: onStage && (() => movePlace(1, 0)),
      "[": () => select(time, selection().length && hi > time ? hi : seconds()),
      "]": () => select(selection().length && lo < time ? lo : 0, time),
      m: hold.hidden ? null : () => hold.onclick(), x: compare ? () => swap.onclick() : null, Escape: clear,
      "?": () => { help.hidden = !help.hidden; } }[key];
    if (act) { act(); event.preventDefault(); event.stopPropagation(); }
  });
  const listeners = {
    "change:time": () => { if (ready && model.get("time") !== own) go(model.get("time")); },
    "change:playing": () => { // another view of this player may be the one that sounds: then this one only follows its time
      if (!model.get("playing")) { if (playing.length) pause(); } else if (shared.model !== model) play();
    },
    "change:index": () => load(model.get("index")),
    "change:layer": () => { layer.value = model.get("layer"); if (ready) changed(); },
    "change:selection": () => { if (ready) { again(); draw(); } },
  };
  for (const name of ["speed", "loop"]) listeners[`change:${name}`] = () => { follow(); again(); };
  for (const name of ["opacity", "threshold", "flow"]) listeners[`change:${name}`] = () => { follow(); draw(true); };
  for (const name of ["truth", "onsets", "words"]) listeners[`change:${name}`] = () => { follow(); if (ready) changed(); };
  for (const [name, listener] of Object.entries(listeners)) model.on(name, listener);
  const sized = new ResizeObserver(() => { fit(); draw(); });
  for (const one of sides) sized.observe(one.picture.parentNode);
  at = model.get("time");
  load(model.get("index"));
  return () => { // the cell was cleared or run again: no sound may go on
    silence();
    asked++;
    wanted++;
    cancelAnimationFrame(frameId);
    sized.disconnect();
    if (shared.stop === pause) shared.stop = shared.model = null;
    for (const [name, listener] of Object.entries(listeners)) model.off(name, listener);
  };
}

export default { render };
