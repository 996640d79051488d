// Questions with choices: a prediction (one try, then locked) or a quiz (a try a choice). The kernel holds the answers
// and the reasons; the page gets a reason only after its choice was made.

const CSS = `
.avlab-card { font: 13px/1.45 var(--jp-ui-font-family, "DejaVu Sans", Arial, sans-serif); max-width: 720px;
  margin: 6px 0; padding: 10px 14px; border: 1px solid #888; border-left: 6px solid #0072B2; border-radius: 4px;
  color: var(--jp-ui-font-color1, #222); background: var(--jp-layout-color1, #fff); }
.avlab-card .question { margin: 0 0 6px; font-weight: 600; overflow-wrap: anywhere; }
.avlab-card .item + .item { margin-top: 14px; }
.avlab-card button { display: flex; gap: 8px; width: 100%; box-sizing: border-box; margin: 4px 0; padding: 6px 10px;
  font: inherit; text-align: left; color: inherit; background: var(--jp-layout-color2, #f3f3f3); cursor: pointer;
  border: 1px solid #888; border-radius: 4px; overflow-wrap: anywhere; }
.avlab-card button:hover:not([aria-disabled=true]) { border-color: #0072B2; box-shadow: 0 0 0 1px #0072B2; }
.avlab-card button[aria-disabled=true] { cursor: default; background: none; }
.avlab-card .mark { flex: none; min-width: 2.6em; white-space: nowrap; }
.avlab-card .said p { margin: 6px 0 0; padding: 4px 10px; border-left: 6px solid #888; overflow-wrap: anywhere; }
.avlab-card .said .right { border-color: #117733; }
.avlab-card .said .wrong { border-color: #d32f2f; }
.avlab-card .note { margin: 8px 0 0; font-style: italic; }
.avlab-card :focus-visible { outline: 3px solid #0072B2; outline-offset: 2px; }
[data-jp-theme-light="false"] .avlab-card :focus-visible { outline-color: #56B4E9; }`;

function make(tag, parent, attributes = {}, text = "") {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  if (text) node.textContent = text; // never innerHTML
  parent.append(node);
  return node;
}

function render({ model, el }) {
  make("style", el, {}, CSS);
  const root = make("section", el, { class: "avlab-card", "aria-label": model.get("title"),
    "data-lm-suppress-shortcuts": "true" });
  const alone = model.get("items").length === 1; // then its question follows the title in one line
  if (!alone) make("p", root, { class: "question" }, model.get("title"));
  const items = model.get("items").map((item, place) => {
    const box = make("div", root, { class: "item", role: "group", "aria-label": item.question });
    make("p", box, { class: "question" }, (alone ? `${model.get("title")} ` : "") + item.question);
    const buttons = item.choices.map((choice, i) => {
      const button = make("button", box, { type: "button" });
      const mark = make("span", button, { class: "mark" });
      make("span", button, {}, choice);
      button.addEventListener("click", () => {
        if (button.getAttribute("aria-disabled") !== "true") model.send({ question: place, choice: i });
      });
      return { button, mark };
    });
    return { buttons, said: make("div", box, { class: "said", role: "status" }) };
  });
  const note = make("p", root, { class: "note", role: "status" });

  function told() {
    model.get("items").forEach((item, place) => {
      const { buttons, said } = items[place];
      buttons.forEach(({ button, mark }, i) => {
        const tried = item.tried.includes(i), right = item.right === i;
        // not `disabled`: that would take the keyboard's place away
        button.setAttribute("aria-disabled", String(item.locked || tried));
        mark.textContent = `(${String.fromCharCode(97 + i)})${right ? " ✓" : tried ? " ✗" : ""}`;
        button.setAttribute("aria-description", right ? "right" : tried ? "not right" : "");
        button.setAttribute("aria-pressed", String(tried));
      });
      const wanted = JSON.stringify(item.said);
      if (said.dataset.text === wanted) return; // else a screen reader would read it again
      said.dataset.text = wanted;
      said.replaceChildren();
      for (const [kind, text] of item.said) make("p", said, { class: kind }, text);
    });
    if (note.textContent !== model.get("note")) note.textContent = model.get("note");
  }

  model.on("change:items", told);
  model.on("change:note", told);
  told();
  return () => { model.off("change:items", told); model.off("change:note", told); };
}

export default { render };
