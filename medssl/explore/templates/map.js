// The map: points drawn into an image by the processor, so that a machine without a graphics card keeps up as well.
function createMap(holder, canvas, marks, data, on) {
  const pen = canvas.getContext("2d", { alpha: false }), over = marks.getContext("2d");
  const view = { x: 0, y: 0, scale: 1 }; // centre in data, device pixels per unit
  const shown = { colours: new Uint32Array(data.n), visible: new Uint8Array(data.n).fill(1), selected: null, ring: [], chosen: -1, hovered: -1 };
  let ratio = 1, width = 0, height = 0, ground = [255, 255, 255], ink = "#000", lassoing = false, path = null, waiting = false;
  let image = null, pixels = null, pad = 0, radius = 0;

  const reach = [data.x, data.y].map((values) => values.reduce((most, v) => Math.max(most, Math.abs(v)), 1e-6));
  const whole = () => 0.47 * Math.min(width / reach[0], height / reach[1]); // the scale that shows all
  const across = (i) => (data.x[i] - view.x) * view.scale + width / 2; // device pixels
  const down = (i) => (data.y[i] - view.y) * view.scale + height / 2;

  function resize() {
    const before = width ? view.scale / whole() : 1;
    ratio = Math.min(window.devicePixelRatio || 1, 2);
    width = Math.max(1, Math.round(holder.clientWidth * ratio));
    height = Math.max(1, Math.round(holder.clientHeight * ratio));
    for (const each of [canvas, marks]) [each.width, each.height] = [width, height];
    view.scale = whole() * before;
    pixels = null;
    request();
  }

  // A disc as offsets: pixels inside it, and those on its edge with the share of them that it covers.
  function disc(r, stride) {
    const inside = [], edge = [], share = [];
    for (let dy = -Math.ceil(r); dy <= Math.ceil(r); dy++) {
      for (let dx = -Math.ceil(r); dx <= Math.ceil(r); dx++) {
        const cover = r + 0.5 - Math.hypot(dx, dy);
        if (cover >= 1) inside.push(dy * stride + dx);
        else if (cover > 0) { edge.push(dy * stride + dx); share.push(256 * cover); }
      }
    }
    return { inside: Int32Array.from(inside), edge: Int32Array.from(edge), share: Int32Array.from(share) };
  }

  function paint() {
    const size = data.n > 10000 ? 2 : data.n > 3000 ? 2.6 : data.n > 600 ? 3.4 : 4.5;
    radius = size * ratio * Math.min(2, Math.max(1, (view.scale / whole()) ** 0.3));
    const margin = Math.ceil(radius) + 1;
    if (!pixels || pad !== 2 * margin) {
      pad = 2 * margin; // points that reach over the border need no test of every pixel
      image = new ImageData(width + 2 * pad, height + 2 * pad);
      pixels = new Uint32Array(image.data.buffer);
    }
    const stride = width + 2 * pad, { inside, edge, share } = disc(radius, stride), under = packed(ground);
    pixels.fill(under);
    for (let pass = shown.selected ? 0 : 1; pass < 2; pass++) { // what is selected lies on top
      for (let i = 0; i < data.n; i++) {
        if (!shown.visible[i] || (shown.selected && shown.selected[i] !== pass)) continue;
        const px = Math.round(across(i)), py = Math.round(down(i));
        if (px < -margin || py < -margin || px >= width + margin || py >= height + margin) continue;
        const colour = shown.selected && !pass ? mixed(shown.colours[i], under, 46) : shown.colours[i];
        const at = (py + pad) * stride + px + pad;
        for (let k = 0; k < inside.length; k++) pixels[at + inside[k]] = colour;
        for (let k = 0; k < edge.length; k++) pixels[at + edge[k]] = mixed(colour, pixels[at + edge[k]], share[k]);
      }
    }
    pen.putImageData(image, -pad, -pad);
    mark();
  }

  function mark() {
    over.clearRect(0, 0, width, height);
    over.strokeStyle = over.fillStyle = ink;
    const circle = (i, r, thick) => {
      over.lineWidth = thick * ratio;
      over.beginPath();
      over.arc(across(i), down(i), radius + r * ratio, 0, 7);
      over.stroke();
    };
    if (shown.chosen >= 0) {
      over.lineWidth = 0.7 * ratio;
      over.globalAlpha = 0.6;
      for (const i of shown.ring) {
        over.beginPath();
        over.moveTo(across(shown.chosen), down(shown.chosen));
        over.lineTo(across(i), down(i));
        over.stroke();
      }
      over.globalAlpha = 1;
      for (const i of shown.ring) circle(i, 1.5, 1.6);
      circle(shown.chosen, 2, 3);
    }
    if (shown.hovered >= 0) circle(shown.hovered, 2, 1.5);
    if (path) {
      over.lineWidth = 1.5 * ratio;
      over.setLineDash([5 * ratio, 4 * ratio]);
      over.beginPath();
      path.forEach(([x, y]) => over.lineTo(x * ratio, y * ratio));
      over.closePath();
      over.stroke();
      over.setLineDash([]);
      over.globalAlpha = 0.08;
      over.fill();
      over.globalAlpha = 1;
    }
  }

  function request() {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; paint(); });
  }

  function zoom(factor, x = width / ratio / 2, y = height / ratio / 2) { // about a point in CSS pixels
    const [dx, dy] = [x * ratio - width / 2, y * ratio - height / 2];
    const scale = Math.min(Math.max(view.scale * factor, whole() / 2), whole() * 200);
    view.x += dx / view.scale - dx / scale;
    view.y += dy / view.scale - dy / scale;
    view.scale = scale;
    request();
  }

  function move(dx, dy) { // CSS pixels
    view.x = Math.min(Math.max(view.x - dx * ratio / view.scale, -1), 1);
    view.y = Math.min(Math.max(view.y - dy * ratio / view.scale, -1), 1);
    request();
  }

  function hit(x, y) { // the nearest sample within a finger's breadth, or -1
    let best = -1, least = (Math.max(8 * ratio, radius + 2)) ** 2;
    for (let i = 0; i < data.n; i++) {
      if (!shown.visible[i]) continue;
      const far = (across(i) - x * ratio) ** 2 + (down(i) - y * ratio) ** 2;
      if (far < least) [best, least] = [i, far];
    }
    return best;
  }

  function within(points) { // samples inside a polygon of CSS pixels, by the parity of crossings
    const found = [];
    for (let i = 0; i < data.n; i++) {
      if (!shown.visible[i]) continue;
      const x = across(i) / ratio, y = down(i) / ratio;
      let inside = false;
      for (let a = 0, b = points.length - 1; a < points.length; b = a++) {
        const [ax, ay] = points[a], [bx, by] = points[b];
        if (ay > y !== by > y && x < (bx - ax) * (y - ay) / (by - ay) + ax) inside = !inside;
      }
      if (inside) found.push(i);
    }
    return found;
  }

  function inView() {
    const found = [];
    for (let i = 0; i < data.n; i++) {
      const x = across(i), y = down(i);
      if (shown.visible[i] && x >= 0 && y >= 0 && x < width && y < height) found.push(i);
    }
    return found;
  }

  const fingers = new Map();
  let travelled = 0;
  const place = (event) => [event.offsetX, event.offsetY];
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    canvas.setPointerCapture(event.pointerId);
    fingers.set(event.pointerId, place(event));
    travelled = 0;
    path = fingers.size === 1 && (lassoing || event.shiftKey) ? [place(event)] : null;
  });
  canvas.addEventListener("pointermove", (event) => {
    const now = place(event), before = fingers.get(event.pointerId);
    if (!before) return on.hover(hit(...now));
    travelled += Math.hypot(now[0] - before[0], now[1] - before[1]);
    if (path) {
      path.push(now);
      mark();
    } else if (fingers.size === 2) { // a pinch: the other finger stays where it is
      const [other] = [...fingers].filter(([id]) => id !== event.pointerId).map(([, at]) => at);
      const apart = (at) => Math.max(Math.hypot(at[0] - other[0], at[1] - other[1]), 1);
      zoom(apart(now) / apart(before), ...other);
    } else if (travelled > 3) {
      on.hover(-1);
      move(now[0] - before[0], now[1] - before[1]);
    }
    fingers.set(event.pointerId, now);
  });
  const lift = (event) => {
    if (!fingers.delete(event.pointerId)) return;
    const drawn = path;
    path = null;
    if (event.type === "pointercancel") return mark();
    if (drawn && drawn.length > 2) on.select(within(drawn));
    else if (travelled <= 3) on.choose(hit(...place(event)));
    mark();
  };
  canvas.addEventListener("pointerup", lift);
  canvas.addEventListener("pointercancel", lift);
  canvas.addEventListener("pointerleave", () => fingers.size || on.hover(-1));
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.03 : 0.0015)), ...place(event));
  }, { passive: false });
  new ResizeObserver(resize).observe(holder);

  return {
    zoom, move, inView, paint,
    reset() { Object.assign(view, { x: 0, y: 0, scale: whole() }); request(); },
    lasso(yes) { lassoing = yes; canvas.style.cursor = yes ? "crosshair" : ""; },
    set(changed) { Object.assign(shown, changed); request(); },
    point(changed) { Object.assign(shown, changed); mark(); }, // of marks alone
    theme(colours) { [ground, ink] = [colours.ground, colours.ink]; request(); },
    screen: (i) => [across(i) / ratio, down(i) / ratio],
    visible: (i) => shown.visible[i] === 1,
  };
}

function packed([r, g, b]) {
  return (0xff000000 | (b << 16) | (g << 8) | r) >>> 0;
}

// A packed colour over another, `share` of 256 of it: blue and red at once, then green.
function mixed(colour, under, share) {
  const rest = 256 - share;
  const outer = (((colour & 0xff00ff) * share + (under & 0xff00ff) * rest) >>> 8) & 0xff00ff;
  const green = (((colour & 0x00ff00) * share + (under & 0x00ff00) * rest) >>> 8) & 0x00ff00;
  return (0xff000000 | outer | green) >>> 0;
}
