/** Formatting of numbers and lists for people. */

/** @param {number} fraction From 0 to 1. */
export function percent(fraction) {
  if (fraction > 0 && fraction < 0.0005) return "< 0.1 %";
  return `${(100 * fraction).toFixed(1)} %`;
}

export function duration(seconds) {
  const milliseconds = 1000 * seconds;
  if (milliseconds >= 1000) return `${seconds.toFixed(2)} s`;
  return `${milliseconds.toFixed(milliseconds < 10 ? 1 : 0)} ms`;
}

export function size(bytes) {
  if (bytes >= 1e6) return `${(bytes / 1e6).toFixed(1)} MB`;
  return bytes >= 1e3 ? `${Math.round(bytes / 1e3)} kB` : `${bytes} bytes`;
}

export function count(number, one, many = `${one}s`) {
  return `${number.toLocaleString("en")} ${number === 1 ? one : many}`;
}

/** @param {string[]} items */
export function list(items) {
  if (items.length < 2) return items.join("");
  return `${items.slice(0, -1).join(", ")} and ${items.at(-1)}`;
}
