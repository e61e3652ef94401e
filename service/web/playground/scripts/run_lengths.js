/** Decodes COCO's compressed run lengths. */

const BITS = 5;
const MORE = 0x20;
const NEGATIVE = 0x10;

/**
 * @param {string} counts As `pycocotools` writes it.
 * @returns {number[]} Lengths of runs, column by column; the first is outside of the mask, the
 *     second inside, and so on.
 */
export function decodeRunLengths(counts) {
  const runs = [];
  let place = 0;
  while (place < counts.length) {
    let value = 0;
    let shift = 0;
    let chunk;
    do {
      chunk = counts.charCodeAt(place) - 48;
      value |= (chunk & 0x1f) << shift;
      shift += BITS;
      place += 1;
    } while (chunk & MORE);
    if (chunk & NEGATIVE) value |= -1 << shift;
    // From the fourth run on, the difference to the run two before it is stored.
    runs.push(runs.length > 2 ? value + runs.at(-2) : value);
  }
  return runs;
}
