// The synchronised player: frames from one sprite on a canvas, 16-bit sound through WebAudio, one clock for both
// (AudioContext.currentTime). No codec, no network. The same file serves the notebook (anywidget) and the HTML page.

const CSS = `
.avlab-player { font: 13px/1.4 var(--jp-ui-font-family, "DejaVu Sans", Arial, sans-serif); max-width: 860px; padding: 8px;
  color: var(--jp-ui-font-color1, #222); background: var(--jp-layout-color1, #fff); }
.avlab-player .row { display: flex; flex-wrap: wrap; gap: 6px 14px; align-items: center; margin-top: 6px; }
.avlab-player .stage { flex: none; image-rendering: pixelated; background: #000; }
.avlab-player .sound { flex: 1 1 320px; min-width: 0; position: relative; }
.avlab-player .sound canvas { width: 100%; height: 288px; display: block; cursor: pointer; }
.avlab-player button { min-width: 86px; font: inherit; padding: 4px 10px; cursor: pointer; }
.avlab-player .seek { flex: 1 1 160px; }
.avlab-player .time { font-variant-numeric: tabular-nums; }
.avlab-player label { display: inline-flex; gap: 5px; align-items: center; }
.avlab-player .note { color: var(--jp-error-color1, #b00020); }
.avlab-player :focus-visible, .avlab-player:focus-visible { outline: 3px solid #0072B2; outline-offset: 2px; }`;

const LEFT = 54; // room for the names of the frequencies, in pixels
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

// 16-bit PCM WAV with the plain 44-byte header that the Python side writes
function readWav(view) {
  const channels = view.getUint16(22, true), rate = view.getUint32(24, true), length = view.getUint32(40, true) / 2 / channels;
  const buffer = new AudioBuffer({ numberOfChannels: channels, sampleRate: rate, length });
  for (let c = 0; c < channels; c++) {
    const channel = buffer.getChannelData(c);
    for (let i = 0; i < length; i++) channel[i] = view.getInt16(44 + 2 * (i * channels + c), true) / 32768;
  }
  return buffer;
}

async function readImage(view, type) {
  const image = new Image(), url = URL.createObjectURL(new Blob([bytes(view)], { type }));
  image.src = url;
  try { await image.decode(); } finally { URL.revokeObjectURL(url); }
  return image;
}

function render({ model, el }) {
  const shared = (globalThis[SHARED] ??= { context: null, stop: null });
  make("style", el, {}, CSS);
  const root = make("div", el, { class: "avlab-player", tabindex: "0", role: "group", "data-lm-suppress-shortcuts": "true",
    "aria-label": "Clip player. Space plays or pauses, arrow keys step one frame, Home and End jump." });
  const top = make("div", root, { class: "row" });
  const stage = make("canvas", top, { class: "stage", role: "img" });
  const sound = make("div", top, { class: "sound" });
  const picture = make("canvas", sound, { role: "img", "aria-label": "Spectrogram with a cursor; click to seek" });
  const bar = make("div", root, { class: "row" });
  const button = make("button", bar, { type: "button", class: "play", "aria-label": "Play" }, "▶ Play");
  const seek = make("input", bar, { type: "range", class: "seek", min: 0, step: "any", "aria-label": "Seek (seconds)" });
  const clock = make("span", bar, { class: "time" });
  const loop = labelled(bar, "loop", "input", { type: "checkbox" }, true);
  const tools = make("div", root, { class: "row" });
  const choose = labelled(tools, "clip", "select", { class: "clip" });
  const layer = labelled(tools, "heat", "select", { class: "layer" });
  const opacity = labelled(tools, "opacity", "input", { type: "range", min: 0, max: 1, step: 0.05, class: "opacity" });
  const truth = labelled(tools, "true outline", "input", { type: "checkbox", class: "truth" }, true);
  const note = make("div", root, { class: "note", role: "status" });

  const lut = bytes(model.get("lut")); // 256 x RGB
  const clips = model.get("clips");
  const still = document.createElement("canvas"); // waveform and spectrogram without the cursor: drawn once a size
  let clip, wav, sprite, mel, at = 0, source = null, begun = 0, shown = -1, sent = 0, own = null, frameId = 0;
  let asked = 0, wanted = 0; // count what was asked to play and to load: a late answer to an earlier question is dropped

  const now = () => {
    if (!source) return at;
    const late = shared.context.outputLatency || 0; // what is heard left the clock this long ago
    return at + Math.max(0, shared.context.currentTime - begun - late);
  };
  const tell = (time, force) => { // at most four times a second: each is a message to the kernel
    if (!force && performance.now() - sent < 250) return;
    sent = performance.now();
    own = Math.round(time * 1000) / 1000;
    put("time", own);
  };
  const put = (name, value) => { model.set(name, value); model.save_changes(); };
  const frameAt = (time) => Math.min(clip.frames - 1, Math.max(0, Math.floor(time * clip.fps + 1e-6)));

  function drawStage(n) {
    const g = stage.getContext("2d"), { width: w, height: h } = clip, W = stage.width, H = stage.height;
    g.imageSmoothingEnabled = false;
    const [tall, wide] = clip.pitch; // of a tile; the frame is its upper left part
    g.drawImage(sprite, (n % clip.columns) * wide, Math.floor(n / clip.columns) * tall, w, h, 0, 0, W, H);
    const heat = clip.layers[layer.selectedIndex - 1];
    if (heat) {
      const [rows, columns] = heat.shape, values = bytes(heat.data).subarray(n * rows * columns, (n + 1) * rows * columns);
      const small = new OffscreenCanvas(columns, rows), s = small.getContext("2d"), grid = s.createImageData(columns, rows);
      values.forEach((v, i) => { // low heat lets the picture through
        for (let c = 0; c < 3; c++) grid.data[4 * i + c] = lut[3 * v + c];
        grid.data[4 * i + 3] = 255 * opacity.value * (v / 255) ** 0.7;
      });
      s.putImageData(grid, 0, 0);
      g.imageSmoothingEnabled = true;
      g.drawImage(small, 0, 0, W, H);
    }
    if (clip.truth && truth.checked) outline(g, n, W / w, H / h);
    const which = heat ? `, heat of ${heat.name}` : "";
    stage.setAttribute("aria-label", `${clip.title}, frame ${n + 1} of ${clip.frames}${which}`);
  }

  function outline(g, n, sx, sy) { // the edge between true and not true pixels: white on black
    const { width: w, height: h } = clip, bits = bytes(clip.truth), start = n * w * h;
    const on = (x, y) => x >= 0 && y >= 0 && x < w && y < h
      && (bits[(start + y * w + x) >> 3] >> (7 - ((start + y * w + x) & 7))) & 1;
    g.beginPath();
    for (let y = 0; y <= h; y++) for (let x = 0; x <= w; x++) {
      if (on(x, y) != on(x - 1, y)) { g.moveTo(x * sx, y * sy); g.lineTo(x * sx, (y + 1) * sy); }
      if (on(x, y) != on(x, y - 1)) { g.moveTo(x * sx, y * sy); g.lineTo((x + 1) * sx, y * sy); }
    }
    for (const [style, width] of [["black", 4], ["white", 1.8]]) { g.strokeStyle = style; g.lineWidth = width; g.stroke(); }
  }

  function fit() { // as many canvas pixels as the page shows, so that text stays sharp; waveform above, spectrogram below
    still.width = picture.width = Math.max(240, Math.round(picture.clientWidth * devicePixelRatio));
    still.height = picture.height = Math.round(288 * devicePixelRatio);
    if (!clip) return;
    const ratio = devicePixelRatio, g = still.getContext("2d"), W = still.width / ratio, H = still.height / ratio;
    const left = LEFT, split = 46, foot = H - 20;
    g.scale(ratio, ratio);
    g.fillStyle = "#E07B00";
    const channels = Array.from({ length: wav.numberOfChannels }, (_, c) => wav.getChannelData(c));
    const bins = Array.from({ length: Math.ceil(W - left) }, (_, x) => {
      const from = Math.floor(x / (W - left) * clip.seconds * wav.sampleRate);
      const to = Math.max(from + 1, Math.floor((x + 1) / (W - left) * clip.seconds * wav.sampleRate));
      let low = 0, high = 0;
      for (const channel of channels) for (const v of channel.subarray(from, to)) { low = Math.min(low, v); high = Math.max(high, v); }
      return [low, high];
    });
    const peak = bins.flat().reduce((most, v) => Math.max(most, Math.abs(v)), 1e-3);
    bins.forEach(([low, high], x) => g.fillRect(left + x, 21 - 20 * high / peak, 1, Math.max(1, 20 * (high - low) / peak)));
    g.imageSmoothingEnabled = false;
    g.drawImage(mel, left, split, W - left, foot - split);
    g.fillStyle = getComputedStyle(root).color;
    g.font = "12px sans-serif";
    g.textAlign = "right";
    g.textBaseline = "middle";
    g.fillText("sound", left - 6, 21);
    for (const [place, name] of clip.ticks) g.fillText(name, left - 6, foot - place * (foot - split));
    g.textBaseline = "top";
    const step = [0.1, 0.25, 0.5, 1, 2, 5, 10, 30].find((s) => clip.seconds / s <= (W - left) / 55) ?? 60;
    for (let t = 0; t <= clip.seconds + 1e-9; t += step) {
      const x = left + t / clip.seconds * (W - left);
      g.textAlign = t === 0 ? "left" : x > W - 30 ? "right" : "center";
      g.fillText(`${+t.toFixed(2)} s`, x, foot + 5);
    }
  }

  function drawSound(time) {
    const ratio = devicePixelRatio, g = picture.getContext("2d"), W = picture.width / ratio, H = picture.height / ratio;
    g.setTransform(1, 0, 0, 1, 0, 0);
    g.clearRect(0, 0, picture.width, picture.height);
    g.drawImage(still, 0, 0);
    g.scale(ratio, ratio);
    const x = LEFT + time / clip.seconds * (W - LEFT - 2);
    for (const [style, width] of [["#000", 4], ["#fff", 2]]) { g.fillStyle = style; g.fillRect(x - width / 2 + 1, 0, width, H - 20); }
  }

  function draw(force = false) {
    if (!clip) return;
    const time = Math.min(now(), clip.seconds), n = frameAt(time);
    if (n !== shown || force) drawStage((shown = n));
    drawSound(time);
    seek.value = time;
    seek.setAttribute("aria-valuetext", `${time.toFixed(2)} of ${clip.seconds.toFixed(2)} seconds`);
    clock.textContent = `${time.toFixed(2)} / ${clip.seconds.toFixed(2)} s`;
    root.dataset.time = time.toFixed(3);
  }

  function silence() {
    source?.stop();
    source?.disconnect();
    source = null;
  }

  function sounding(on) {
    button.textContent = on ? "❚❚ Pause" : "▶ Play";
    button.setAttribute("aria-label", on ? "Pause" : "Play");
    if (on) [shared.stop, shared.model] = [pause, model];
    else if (shared.stop === pause) shared.stop = shared.model = null;
    if (model.get("playing") !== on) put("playing", on);
  }

  function start(from) { // sound and clock begin together; level as in the clip, never louder
    source = shared.context.createBufferSource();
    source.buffer = wav;
    source.connect(shared.context.destination);
    at = from;
    begun = shared.context.currentTime;
    source.start(0, from);
  }

  function tick() {
    if (!source) return;
    if (now() >= clip.seconds) {
      silence();
      if (!loop.checked) { at = clip.seconds; draw(); tell(at, true); return sounding(false); }
      start(0);
    }
    draw();
    tell(now());
    frameId = requestAnimationFrame(tick);
  }

  async function play() {
    if (source || !clip) return;
    const mine = ++asked;
    shared.context ??= new AudioContext();
    note.textContent = "";
    const started = shared.context.resume();
    await Promise.race([started, new Promise((done) => setTimeout(done, 1500))]);
    if (mine !== asked || source) return; // paused, or another clip chosen, meanwhile
    if (shared.context.state !== "running") {
      note.textContent = "The browser holds back sound until you press Play yourself.";
      return sounding(false);
    }
    shared.stop?.();
    start(at >= clip.seconds - 1e-3 ? 0 : at);
    sounding(true);
    tick();
  }

  function pause() {
    asked++;
    if (source) { at = Math.min(now(), clip.seconds); silence(); }
    cancelAnimationFrame(frameId);
    draw();
    tell(at, true);
    sounding(false);
  }

  function go(time) {
    if (!clip) return;
    const on = source !== null;
    silence();
    at = Math.min(Math.max(0, time), clip.seconds);
    if (on && at < clip.seconds) start(at); // a running tick goes on with the new source
    else if (on) return pause();
    draw();
    tell(at, true);
  }

  async function load(index) {
    if (source) pause();
    const next = clips[index], mine = ++wanted;
    try {
      const images = await Promise.all([readImage(next.sprite, "image/jpeg"), readImage(next.spectrogram, "image/png")]);
      if (mine === wanted) open(index, readWav(next.wav), images);
    } catch (error) {
      note.textContent = `This clip cannot be shown: ${error.message}`;
    }
  }

  function open(index, sound, images) {
    if (source) pause(); // the clip before this one was started while this one came
    clip = clips[index];
    wav = sound;
    [sprite, mel] = images;
    stage.width = Math.round(288 * Math.min(1.5, clip.width / clip.height) * devicePixelRatio); // 288 px high, or 432 wide
    stage.height = Math.round(stage.width * clip.height / clip.width);
    stage.style.width = `${stage.width / devicePixelRatio}px`;
    fit();
    seek.max = clip.seconds;
    const kept = layer.selectedIndex > 0 ? layer.value : model.get("layer");
    layer.replaceChildren();
    make("option", layer, {}, "none");
    for (const one of clip.layers) make("option", layer, {}, one.name);
    layer.selectedIndex = 1 + clip.layers.findIndex((one) => one.name === kept);
    layer.parentNode.style.display = opacity.parentNode.style.display = clip.layers.length ? "" : "none";
    truth.parentNode.style.display = clip.truth ? "" : "none";
    at = Math.min(at, clip.seconds);
    choose.selectedIndex = index;
    root.dataset.layers = clip.layers.length;
    root.dataset.ready = "true";
    draw(true);
    tell(at, true);
  }

  clips.forEach((one, i) => make("option", choose, { value: i }, one.title));
  choose.parentNode.style.display = clips.length > 1 ? "" : "none";
  loop.checked = model.get("loop");
  opacity.value = model.get("opacity");
  truth.checked = model.get("truth");
  button.onclick = () => (source ? pause() : play());
  seek.oninput = () => go(+seek.value);
  picture.onclick = (event) => {
    const box = picture.getBoundingClientRect(), left = event.clientX - box.left - LEFT;
    go(Math.max(0, left) / (box.width - LEFT) * clip.seconds);
  };
  choose.onchange = () => { pause(); at = 0; put("index", choose.selectedIndex); };
  layer.onchange = () => { put("layer", layer.value); draw(true); };
  opacity.oninput = () => { draw(true); put("opacity", +opacity.value); };
  truth.onchange = () => { draw(true); put("truth", truth.checked); };
  loop.onchange = () => put("loop", loop.checked);
  root.addEventListener("keydown", (event) => {
    if (!clip || event.target.tagName === "SELECT" || event.target === opacity || event.ctrlKey || event.metaKey || event.altKey) return;
    const pressed = event.target === button || event.target.type === "checkbox"; // space is theirs
    const step = (by) => () => { if (source) pause(); go((frameAt(at) + by + 0.001) / clip.fps); };
    const act = { " ": pressed ? null : () => (source ? pause() : play()), ArrowRight: step(1), ArrowLeft: step(-1),
      Home: () => go(0), End: () => go(clip.seconds) }[event.key];
    if (act) { act(); event.preventDefault(); event.stopPropagation(); }
  });
  const listeners = {
    "change:time": () => { if (clip && model.get("time") !== own) go(model.get("time")); },
    "change:playing": () => { // another view of this player may be the one that sounds: then this one only follows its time
      if (!model.get("playing")) { if (source) pause(); } else if (shared.model !== model) play();
    },
    "change:index": () => load(model.get("index")),
    "change:layer": () => { layer.value = model.get("layer"); draw(true); },
    "change:opacity": () => { opacity.value = model.get("opacity"); draw(true); },
    "change:truth": () => { truth.checked = model.get("truth"); draw(true); },
    "change:loop": () => { loop.checked = model.get("loop"); },
  };
  for (const [name, listener] of Object.entries(listeners)) model.on(name, listener);
  const sized = new ResizeObserver(() => { fit(); draw(); });
  sized.observe(picture);
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
