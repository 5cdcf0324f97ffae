// What stands around the map: legend, the chosen sample, its neighbours, the selection.
function element(tag, given = {}, ...inside) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(given)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...inside);
  return made;
}

const swatch = (colour) => element("span", { class: "swatch", style: `background: rgb(${colour})` });

function legend(holder, colours, hidden, toggled) {
  holder.replaceChildren();
  if (colours.scale) {
    const { low, high, cutLow, cutHigh } = colours.scale;
    const steps = colours.entries.slice(0, 64).map((entry) => `rgb(${entry.rgb})`).join(", ");
    holder.append(
      element("span", {}, (cutLow ? "≤ " : "") + number(low)),
      element("span", { class: "scale", role: "img", "aria-label": `colours from ${number(low)} to ${number(high)}`, style: `background: linear-gradient(to right, ${steps})` }),
      element("span", {}, (cutHigh ? "≥ " : "") + number(high)),
    );
  }
  const listed = colours.entries.map((entry, k) => [entry, k]).filter(([entry]) => entry.name && entry.count);
  if (listed.length > 1 || (colours.scale && listed.length)) {
    for (const [entry, k] of listed) {
      const box = element("input", { type: "checkbox", onchange: (event) => toggled([k], event.target.checked) });
      box.checked = !hidden.has(k);
      holder.append(element("label", {}, box, swatch(entry.rgb), entry.name, element("small", {}, entry.count.toLocaleString("en"))));
    }
  }
  if (listed.length > 2) {
    const all = listed.map(([, k]) => k);
    for (const [word, yes] of [["All", true], ["None", false]]) {
      holder.append(element("button", { type: "button", onclick: () => { toggled(all, yes); legend(holder, colours, hidden, toggled); } }, word));
    }
  }
  if (colours.repeats) holder.append(element("small", { class: "note" }, "Colours repeat; “None” and one tick show a class alone."));
}

function details(holder, data, pictures, i, select) {
  const value = (column) => {
    if (!column.classes) return data.text(column, i);
    const alike = () => select([...column.values.keys()].filter((j) => column.values[j] === column.values[i]));
    return element("button", { type: "button", class: "link", title: "select all of these", onclick: alike }, data.text(column, i));
  };
  const rows = data.columns.map((column) => element("tr", {}, element("th", { scope: "row" }, column.title), element("td", {}, value(column))));
  holder.replaceChildren();
  if (pictures) {
    const canvas = element("canvas", { class: "picture", role: "img", "aria-label": `sample ${data.ids[i]}` });
    holder.append(canvas, element("p", { class: "note" }, pictures.caption(i)));
    pictures.draw(canvas, i, Math.min(holder.clientWidth || 300, data.pictures.kind === "slices" ? 240 : 420));
  }
  holder.append(element("table", {}, element("tr", {}, element("th", { scope: "row" }, "sample"), element("td", {}, element("code", {}, data.ids[i]))), ...rows));
}

function neighbours(holder, data, pictures, i, column, colours, choose) {
  const tile = ({ sample, cosine }) => {
    const same = data.patients[sample] === data.patients[i];
    const value = column ? data.text(column, sample) : "";
    const words = `${value}${value && ", "}cosine ${cosine.toFixed(3)}${same ? ", same patient" : ""}`;
    const made = element("button", { type: "button", class: "tile", "aria-label": words, title: data.ids[sample], onclick: () => choose(sample) });
    const canvas = pictures && element("canvas");
    if (canvas) made.append(canvas);
    made.append(element("span", {}, swatch(colours.entries[colours.entry[sample]].rgb), value), element("small", {}, cosine.toFixed(3) + (same ? " · same patient" : "")));
    return [made, canvas, sample];
  };
  const tiles = data.near(i).map(tile);
  holder.replaceChildren(element("div", { class: "tiles" }, ...tiles.map(([made]) => made)));
  for (const [made, canvas, sample] of tiles) if (canvas) pictures.draw(canvas, sample, Math.max(60, Math.floor(made.clientWidth) - 10));
  const same = tiles.filter(([, , sample]) => data.patients[sample] === data.patients[i]).length;
  holder.append(element("p", { class: "note" }, `${same} of ${tiles.length} are of the same patient.`));
}

const ROWS = 200; // of a selection that the page lists; the file has all of them

function selection(holder, data, list, column, colours, { choose, clear, say }) {
  if (!list.length) {
    holder.replaceChildren(element("p", { class: "note" }, "Nothing is selected. Draw a lasso, or select what is in view."));
    return;
  }
  const people = new Set(list.map((i) => data.patients[i])).size;
  const button = (word, act) => element("button", { type: "button", onclick: act }, word);
  holder.replaceChildren(
    element("p", { id: "count" }, element("b", {}, `${list.length.toLocaleString("en")} samples`), ` of ${people.toLocaleString("en")} ${people === 1 ? "patient" : "patients"}`),
    element("p", { class: "bar" },
      button("Copy sample ids", () => copied(list.map((i) => data.ids[i]).join("\n")).then((done) => say(done ? `${list.length} ids copied` : "the browser does not let pages copy; download the table"))),
      button("Download CSV", () => download(`${data.run}-selection.csv`, table(data, list))),
      button("Clear", clear)),
  );
  if (column) holder.append(counts(data, list, column, colours));
  const shown = list.slice(0, ROWS).map((i) => element("tr", {},
    element("td", {}, element("button", { type: "button", class: "link id", onclick: () => choose(i) }, data.ids[i])),
    element("td", {}, column ? data.text(column, i) : "")));
  const head = element("tr", {}, element("th", { scope: "col" }, "sample"), element("th", { scope: "col" }, column ? column.title : ""));
  holder.append(element("div", { class: "rows", tabindex: "0", role: "region", "aria-label": "Selected samples" }, element("table", {}, head, ...shown)));
  if (list.length > ROWS) holder.append(element("p", { class: "note" }, `The first ${ROWS}; the CSV has all.`));
}

// How many of each class, or the range of a number, of a selection.
function counts(data, list, column, colours) {
  if (!column.classes) {
    const known = list.map((i) => column.values[i]).filter((v) => !Number.isNaN(v)).sort((a, b) => a - b);
    const at = (q) => number(known[Math.round(q * (known.length - 1))]);
    const words = known.length ? `median ${at(0.5)}, from ${at(0)} to ${at(1)}` : "unknown";
    return element("p", { id: "counts" }, `${column.title}: ${words}`, element("small", {}, known.length < list.length ? ` (${list.length - known.length} unknown)` : ""));
  }
  const per = new Map();
  for (const i of list) per.set(colours.entry[i], (per.get(colours.entry[i]) || 0) + 1);
  const rows = [...per].sort((a, b) => b[1] - a[1]).slice(0, 12).map(([k, count]) => element("tr", {},
    element("td", {}, swatch(colours.entries[k].rgb), colours.entries[k].name),
    element("td", { class: "right" }, count.toLocaleString("en")),
    element("td", { class: "right" }, `${Math.round(100 * count / list.length)} %`)));
  return element("table", { id: "counts", "aria-label": `Selected by ${column.title}` }, ...rows);
}

function table(data, list) {
  const quoted = (text) => /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  const value = (column, i) => column.classes ? (column.values[i] < 0 ? "" : column.classes[column.values[i]]) : Number.isNaN(column.values[i]) ? "" : String(column.values[i]);
  const lines = list.map((i) => [data.ids[i], ...data.columns.map((column) => value(column, i))]);
  return [["sample_id", ...data.columns.map((column) => column.name)], ...lines].map((line) => line.map(quoted).join(",") + "\n").join("");
}

function download(name, text) {
  const link = element("a", { download: name, href: URL.createObjectURL(new Blob([text], { type: "text/csv" })) });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

async function copied(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch { // pages of a folder have no clipboard in some browsers
    const field = element("textarea", { class: "unseen" });
    field.value = text;
    document.body.append(field);
    field.select();
    const done = document.execCommand("copy");
    field.remove();
    return done;
  }
}
