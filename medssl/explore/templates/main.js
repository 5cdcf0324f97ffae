// Ties data, map and panels together. `explorer` is there for whoever drives the page by script.
const explorer = (() => {
  const byId = (id) => document.getElementById(id);
  const data = readData(), pictures = createPictures(data);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const state = { column: data.columns.find((column) => column.classes && column.group === "labels") || data.columns[0] || null, colours: null, hidden: new Set(), chosen: -1, hovered: -1, selected: [] };
  const canvas = byId("points"), tip = byId("tip");
  const map = createMap(byId("map"), canvas, byId("marks"), data, { hover, choose, select });
  const say = (words) => { byId("said").textContent = words; };
  const words = (i) => (state.column ? `${state.column.title}: ${data.text(state.column, i)}` : data.ids[i]);

  function hover(i) {
    if (i === state.hovered) return;
    state.hovered = i;
    map.point({ hovered: i });
    tip.hidden = i < 0;
    if (i < 0) return;
    const drawing = pictures && element("canvas"), room = byId("map").getBoundingClientRect();
    tip.replaceChildren(...(drawing ? [drawing] : []), element("div", {}, words(i)), element("small", {}, data.ids[i]));
    if (drawing) pictures.draw(drawing, i, Math.min(data.pictures.kind === "slices" ? 140 : 220, room.width / 2.4));
    const [x, y] = map.screen(i);
    // Beside the point, on the side where there is room for it.
    tip.style.left = `${Math.max(4, x + 14 + tip.offsetWidth < room.width ? x + 14 : x - 14 - tip.offsetWidth)}px`;
    tip.style.top = `${Math.min(Math.max(4, y - tip.offsetHeight / 2), Math.max(4, room.height - tip.offsetHeight - 4))}px`;
  }

  function choose(i) {
    state.chosen = i;
    map.point({ chosen: i, ring: i < 0 ? [] : data.near(i).map((near) => near.sample) });
    if (i < 0) {
      byId("details").replaceChildren(element("p", { class: "note" }, "Point at a sample to see it; click it for its nearest neighbours."));
      byId("near").replaceChildren(element("p", { class: "note" }, "Of no sample yet."));
      return;
    }
    details(byId("details"), data, pictures, i, select);
    neighbours(byId("near"), data, pictures, i, state.column, state.colours, choose);
    say(`Sample ${data.ids[i]}, ${words(i)}, with its ${data.near(i).length} nearest neighbours`);
  }

  function select(list) {
    state.selected = list;
    let mask = null;
    if (list.length) {
      mask = new Uint8Array(data.n);
      for (const i of list) mask[i] = 1;
    }
    map.set({ selected: mask });
    selection(byId("selection"), data, list, state.column, state.colours, { choose, clear: () => select([]), say });
    say(list.length ? `${list.length} samples selected` : "nothing selected");
  }

  function colourBy(column) {
    state.column = column;
    state.hidden.clear();
    repaint();
  }

  function repaint() {
    state.colours = colouring(data, state.column, dark.matches);
    map.theme(dark.matches ? { ground: [22, 27, 34], ink: "#f0f3f6" } : { ground: [255, 255, 255], ink: "#10161d" });
    const shades = state.colours.entries.map((entry) => packed(entry.rgb));
    map.set({ colours: Uint32Array.from(state.colours.entry, (k) => shades[k]) });
    show();
    legend(byId("legend"), state.colours, state.hidden, (entries, yes) => {
      for (const k of entries) state.hidden[yes ? "delete" : "add"](k);
      show();
    });
    if (state.chosen >= 0) choose(state.chosen);
    selection(byId("selection"), data, state.selected, state.column, state.colours, { choose, clear: () => select([]), say });
  }

  function show() {
    map.set({ visible: Uint8Array.from(state.colours.entry, (k) => (state.hidden.has(k) ? 0 : 1)) });
  }

  function step(by) { // to the next or last point in view, from left to right
    const seen = map.inView().map((i) => [map.screen(i)[0], i]).sort((a, b) => a[0] - b[0] || a[1] - b[1]).map(([, i]) => i);
    if (!seen.length) return;
    const at = seen.indexOf(state.hovered);
    const next = seen[at < 0 ? (by > 0 ? 0 : seen.length - 1) : (at + by + seen.length) % seen.length];
    hover(next);
    say(`${words(next)}, sample ${data.ids[next]}`);
  }

  const held = (yes) => {
    map.lasso(yes);
    byId("lasso").setAttribute("aria-pressed", yes);
    byId("pan").setAttribute("aria-pressed", !yes);
  };
  const keys = {
    ArrowLeft: () => map.move(40, 0), ArrowRight: () => map.move(-40, 0), ArrowUp: () => map.move(0, 40), ArrowDown: () => map.move(0, -40),
    "+": () => map.zoom(1.3), "=": () => map.zoom(1.3), "-": () => map.zoom(1 / 1.3), 0: () => map.reset(),
    n: () => step(1), p: () => step(-1), Enter: () => state.hovered >= 0 && choose(state.hovered), a: () => select(map.inView()),
    Escape: () => { hover(-1); choose(-1); select([]); },
  };
  canvas.addEventListener("keydown", (event) => {
    const act = keys[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!act || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    if (event.key.startsWith("Arrow") || "+=-0".includes(event.key)) hover(-1);
    act();
  });
  byId("pan").onclick = () => held(false);
  byId("lasso").onclick = () => held(true);
  byId("closer").onclick = () => map.zoom(1.5);
  byId("farther").onclick = () => map.zoom(1 / 1.5);
  byId("whole").onclick = () => map.reset();
  byId("inview").onclick = () => select(map.inView());

  const menu = byId("colour");
  for (const group of new Set(data.columns.map((column) => column.group))) {
    const options = data.columns.map((column, k) => [column, k]).filter(([column]) => column.group === group);
    menu.append(element("optgroup", { label: group }, ...options.map(([column, k]) => element("option", { value: k }, column.title))));
  }
  menu.value = data.columns.indexOf(state.column);
  menu.disabled = !data.columns.length;
  menu.onchange = () => colourBy(data.columns[menu.value]);
  dark.addEventListener("change", repaint);
  repaint();
  return { data, map, state, choose, select, colourBy };
})();
