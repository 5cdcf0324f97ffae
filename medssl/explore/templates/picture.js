// Traces and slices on small canvases.
function createPictures(data) {
  const how = data.pictures;
  if (!how) return null;
  return how.kind === "traces" ? createTraces(data, how) : createSlices(data, how);
}

function sized(canvas, width, height) {
  const ratio = Math.min(window.devicePixelRatio || 1, 2);
  [canvas.width, canvas.height] = [Math.round(width * ratio), Math.round(height * ratio)];
  [canvas.style.width, canvas.style.height] = [`${width}px`, `${height}px`];
  const pen = canvas.getContext("2d");
  pen.scale(ratio, ratio);
  return pen;
}

function createTraces(data, how) {
  const codes = data.bytes("traces"), spans = new Float32Array(data.bytes("spans").buffer);
  const lanes = how.channels.length, size = lanes * how.points;
  return {
    // All channels of a sample at one scale, one below the other.
    draw(canvas, i, width) {
      const lane = Math.round(width * (lanes > 1 ? 0.2 : 0.36)), named = width >= 200;
      const pen = sized(canvas, width, lane * lanes);
      const style = getComputedStyle(canvas);
      pen.lineWidth = 1.1;
      pen.lineJoin = "round";
      pen.font = "10px system-ui, sans-serif";
      for (let c = 0; c < lanes; c++) {
        pen.strokeStyle = style.color;
        pen.beginPath();
        for (let t = 0; t < how.points; t++) {
          const value = codes[i * size + c * how.points + t] / 255;
          pen.lineTo(2 + (width - 4) * t / (how.points - 1 || 1), lane * (c + 1) - 2 - (lane - 4) * value);
        }
        pen.stroke();
        pen.fillStyle = style.getPropertyValue("--soft");
        if (named) pen.fillText(how.channels[c], 2, lane * c + 10);
      }
    },
    caption: (i) => `${number(how.seconds)} s; a lane is ${number(spans[i])} ${how.unit} high`,
  };
}

function createSlices(data, how) {
  const sheets = new Map(), each = how.tiles ** 2;
  const sheet = (k) => {
    if (!sheets.has(k)) {
      const image = new Image();
      image.src = "data:image/jpeg;base64," + document.getElementById("blob-tiles" + k).textContent;
      sheets.set(k, image.decode().then(() => image));
    }
    return sheets.get(k);
  };
  return {
    draw(canvas, i, width) {
      const height = Math.round(width * how.height / how.width);
      const pen = sized(canvas, width, height), at = i % each;
      canvas.dataset.sample = i;
      sheet(Math.floor(i / each)).then((image) => {
        if (Number(canvas.dataset.sample) !== i) return; // another sample was asked for meanwhile
        const [x, y] = [(at % how.tiles) * how.width, Math.floor(at / how.tiles) * how.height];
        pen.drawImage(image, x, y, how.width, how.height, 0, 0, width, height);
      });
    },
    caption: () => `${how.height} × ${how.width} pixels`,
  };
}
