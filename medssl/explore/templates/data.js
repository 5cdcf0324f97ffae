// What the page holds, as typed arrays: sample i is entry i of each of them.
function readData() {
  const facts = JSON.parse(document.getElementById("facts").textContent);
  const bytes = (name) => {
    const text = atob(document.getElementById("blob-" + name).textContent);
    const out = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) out[i] = text.charCodeAt(i);
    return out;
  };
  const xy = new Uint16Array(bytes("xy").buffer);
  const n = facts.ids.length;
  const x = new Float32Array(n), y = new Float32Array(n);
  for (let i = 0; i < n; i++) {
    x[i] = xy[2 * i] / 32767.5 - 1;
    y[i] = 1 - xy[2 * i + 1] / 32767.5; // up on the screen is down in numbers
  }
  const neighbours = new Uint32Array(bytes("neighbours").buffer);
  const cosine = new Int16Array(bytes("cosine").buffer);
  const columns = facts.columns.map((column, k) => {
    const buffer = bytes("column" + k).buffer;
    return { ...column, values: column.classes ? new Int32Array(buffer) : new Float32Array(buffer) };
  });
  return {
    n, x, y, columns, bytes, run: facts.run, ids: facts.ids, patients: facts.patients, pictures: facts.pictures,
    near: (i) => Array.from({ length: facts.k }, (_, j) => ({
      sample: neighbours[i * facts.k + j], cosine: cosine[i * facts.k + j] / 10000,
    })),
    text: (column, i) => {
      const value = column.values[i];
      if (column.classes) return value < 0 ? "unknown" : column.classes[value];
      return Number.isNaN(value) ? "unknown" : number(value);
    },
  };
}

function number(value) {
  if (value === 0) return "0";
  const size = Math.abs(value);
  return size >= 1e5 || size < 1e-3 ? value.toExponential(1) : String(Number(value.toPrecision(size >= 1000 ? 5 : 3)));
}

// Eight colours that colour-blind readers tell apart (M. Petroff, 2021, without its greys), and viridis in nine steps.
const CLASSES = ["#3f90da", "#ffa90e", "#bd1f01", "#832db6", "#92dadd", "#a96b59", "#e76300", "#b9ac70"];
const VIRIDIS = ["#440154", "#472d7b", "#3b528b", "#2c728e", "#21918c", "#28ae80", "#5ec962", "#addc30", "#fde725"];
const LISTED = 60; // classes of a column that the legend lists; the rest are one entry

function rgb(hex) {
  return [1, 3, 5].map((k) => parseInt(hex.slice(k, k + 2), 16));
}

// A place between 0 and 1 on viridis, less the end that the background would swallow.
function onScale(t, dark) {
  const at = (dark ? 0.15 + 0.85 * t : 0.92 * t) * (VIRIDIS.length - 1);
  const k = Math.min(Math.floor(at), VIRIDIS.length - 2);
  const [low, high] = [rgb(VIRIDIS[k]), rgb(VIRIDIS[k + 1])];
  return low.map((part, c) => Math.round(part + (at - k) * (high[c] - part)));
}

// How a column colours: an entry per sample, and the entries of the legend or the ends of the scale.
function colouring(data, column, dark) {
  const grey = dark ? [92, 100, 110] : [176, 184, 193];
  if (!column) {
    return { entry: new Int32Array(data.n), entries: [{ name: "samples", rgb: rgb(CLASSES[0]), count: data.n }] };
  }
  const entry = new Int32Array(data.n);
  if (column.classes) {
    const listed = column.classes.slice(0, LISTED);
    const entries = listed.map((name, k) => ({ name, rgb: rgb(CLASSES[k % CLASSES.length]), count: 0 }));
    const other = column.classes.length > LISTED ? entries.push({ name: `${column.classes.length - LISTED} others`, rgb: grey, count: 0 }) - 1 : -1;
    const unknown = entries.push({ name: "unknown", rgb: grey, count: 0 }) - 1;
    for (let i = 0; i < data.n; i++) {
      const value = column.values[i];
      entry[i] = value < 0 ? unknown : value < LISTED ? value : other;
      entries[entry[i]].count++;
    }
    if (!entries[unknown].count) entries.pop();
    return { entry, entries, repeats: listed.length > CLASSES.length };
  }
  const known = Float32Array.from(column.values.filter((v) => !Number.isNaN(v))).sort();
  const quantile = (q) => known[Math.round(q * (known.length - 1))];
  let [low, high] = [quantile(0.02), quantile(0.98)]; // a few extremes would leave one colour for all others
  if (low === high) [low, high] = [known[0], known[known.length - 1]];
  const entries = Array.from({ length: 64 }, (_, k) => ({ rgb: onScale(k / 63, dark), count: 0 }));
  const unknown = entries.push({ name: "unknown", rgb: grey, count: 0 }) - 1;
  for (let i = 0; i < data.n; i++) {
    const t = (column.values[i] - low) / (high - low || 1);
    entry[i] = Number.isNaN(t) ? unknown : Math.round(63 * Math.min(Math.max(t, 0), 1));
    entries[entry[i]].count++;
  }
  return { entry, entries, scale: { low, high, cutLow: known[0] < low, cutHigh: known[known.length - 1] > high } };
}
