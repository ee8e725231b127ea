// Masks as pictures: ids are decoded from grey PNGs, and coloured with an outline that shows on any ground.

const hex = (color) => [1, 3, 5].map((at) => parseInt(color.slice(at, at + 2), 16));

export const paint = {
  // Return { width, height, data }: the id of each pixel.
  async decode(base64) {
    const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
    const image = await createImageBitmap(new Blob([bytes], { type: 'image/png' }), { colorSpaceConversion: 'none' });
    const canvas = new OffscreenCanvas(image.width, image.height);
    const pen = canvas.getContext('2d', { willReadFrequently: true });
    pen.drawImage(image, 0, 0);
    const pixels = pen.getImageData(0, 0, image.width, image.height).data;
    const data = new Uint8Array(image.width * image.height);
    for (let i = 0; i < data.length; i++) data[i] = pixels[4 * i];
    return { width: image.width, height: image.height, data };
  },

  // Return the coloured mask as a canvas, and a place inside each object for its number.
  color({ width, height, data }, colors, opacity, chosen) {
    const picture = new ImageData(width, height), out = new Uint32Array(picture.data.buffer);
    const palette = colors.map(hex), places = new Map();
    const tint = (id, alpha) => {
      const [r, g, b] = palette[(id - 1) % palette.length];
      return (Math.round(255 * alpha) << 24) | (b << 16) | (g << 8) | r;
    };
    const fills = Array.from({ length: 256 }, (_, id) => (id ? tint(id, opacity) : 0));
    const edges = Array.from({ length: 256 }, (_, id) => (id ? tint(id, 1) : 0));
    const white = 0xffffffff | 0, black = 0xb0000000 | 0;
    for (let y = 0, i = 0; y < height; y++) {
      for (let x = 0; x < width; x++, i++) {
        const id = data[i];
        const up = y ? data[i - width] : id, down = y < height - 1 ? data[i + width] : id;
        const left = x ? data[i - 1] : id, right = x < width - 1 ? data[i + 1] : id;
        const edge = up !== id || down !== id || left !== id || right !== id;
        if (!id) {
          if (edge) out[i] = (up || down || left || right) === chosen ? white : black;
          continue;
        }
        out[i] = edge ? edges[id] : fills[id];
        let place = places.get(id);
        if (!place) places.set(id, (place = { x: 0, y: 0, area: 0 }));
        place.x += x; place.y += y; place.area++;
      }
    }
    const canvas = new OffscreenCanvas(width, height);
    canvas.getContext('2d').putImageData(picture, 0, 0);
    for (const [id, place] of places) {
      const middle = inside({ width, height, data }, id, place.x / place.area, place.y / place.area);
      places.set(id, { ...middle, area: place.area / data.length });
    }
    return { canvas, places };
  },

  // Return black or white, whichever can be read on a colour.
  on(color) {
    const [r, g, b] = hex(color).map((value) => (value / 255 <= 0.04045 ? value / 3294.6 : ((value / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.179 ? '#000000' : '#ffffff';
  },
};

// Return the centre and width of the object's run of pixels nearest to (x, y) in that row, or the place itself.
function inside({ width, height, data }, id, x, y) {
  const row = Math.min(height - 1, Math.round(y)) * width;
  let best = null;
  for (let start = 0; start < width; start++) {
    if (data[row + start] !== id) continue;
    let end = start;
    while (end + 1 < width && data[row + end + 1] === id) end++;
    const middle = (start + end) / 2;
    if (best === null || Math.abs(middle - x) < Math.abs(best.x - x)) best = { x: middle, y, width: end - start + 1 };
    start = end;
  }
  return best ?? { x, y, width: 0 };
}
