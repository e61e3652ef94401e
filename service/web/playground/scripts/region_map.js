/** Regions of an image, a number for every pixel: its class, or the detection that covers it. */

/**
 * Kept column by column, as COCO counts, so that a run of a mask is one stretch of memory: an
 * image of 50 megapixels is filled in milliseconds.
 */
export class RegionMap {
  constructor(height, width) {
    this.height = height;
    this.width = width;
    this.ids = new Uint8Array(height * width);
  }

  /** @param {number[]} runs As `decodeRunLengths` returns them. */
  fill(runs, id) {
    let place = 0;
    runs.forEach((length, index) => {
      if (index % 2) this.ids.fill(id, place, place + length);
      place += length;
    });
  }

  at(row, column) {
    return this.ids[column * this.height + row];
  }
}

/** Colours of regions and their edges as 0xAABBGGRR, the order of a canvas's bytes. */
export class RegionColors {
  fills = new Uint32Array(256);
  edges = new Uint32Array(256);

  /**
   * @param {number} id
   * @param {string} color Such as "#3ddc84".
   * @param {number} opacity Of the area, 0 to 1; its outline has twice as much.
   */
  set(id, color, opacity) {
    const red = Number.parseInt(color.slice(1, 3), 16);
    const green = Number.parseInt(color.slice(3, 5), 16);
    const blue = Number.parseInt(color.slice(5, 7), 16);
    const packed = (alpha) =>
      ((Math.round(255 * Math.min(alpha, 1)) << 24) | (blue << 16) | (green << 8) | red) >>> 0;
    this.fills[id] = packed(opacity);
    this.edges[id] = packed(2 * opacity);
  }
}

/** Longer side of the painted canvas for any image, about that of a screen. */
const PAINTED_PIXELS = 1400;
const EDGE_PIXELS = 2;

/** Paint regions onto a canvas of the image's shape; the page scales it to the image's place. */
export function paintRegions(canvas, map, colors) {
  const scale = PAINTED_PIXELS / Math.max(map.height, map.width);
  const height = (canvas.height = Math.max(1, Math.round(map.height * scale)));
  const width = (canvas.width = Math.max(1, Math.round(map.width * scale)));
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  const pixels = new Uint32Array(image.data.buffer);
  const rows = Int32Array.from({ length: height }, (_, y) => sample(y, height, map.height));
  const columns = Int32Array.from({ length: width }, (_, x) => sample(x, width, map.width));
  for (let x = 0; x < width; x += 1) {
    const here = columns[x] * map.height;
    const left = columns[Math.max(x - EDGE_PIXELS, 0)] * map.height;
    const right = columns[Math.min(x + EDGE_PIXELS, width - 1)] * map.height;
    for (let y = 0; y < height; y += 1) {
      const row = rows[y];
      const id = map.ids[here + row];
      const onEdge =
        map.ids[left + row] !== id ||
        map.ids[right + row] !== id ||
        map.ids[here + rows[Math.max(y - EDGE_PIXELS, 0)]] !== id ||
        map.ids[here + rows[Math.min(y + EDGE_PIXELS, height - 1)]] !== id;
      pixels[y * width + x] = onEdge ? colors.edges[id] : colors.fills[id];
    }
  }
  context.putImageData(image, 0, 0);
}

function sample(place, painted, original) {
  return Math.floor(((place + 0.5) / painted) * original);
}
