/** Parses the header Server-Timing. */

/**
 * @param {string|null} header Such as "decode;dur=4.2, queue;dur=0.1", in milliseconds.
 * @returns {Map<string, number>} Seconds by stage, in the header's order.
 */
export function readServerTiming(header) {
  const stages = new Map();
  for (const entry of (header ?? "").split(",")) {
    const [name, ...parameters] = entry.split(";").map((part) => part.trim());
    const duration = parameters.find((parameter) => parameter.startsWith("dur="));
    if (name && duration) stages.set(name, Number.parseFloat(duration.slice(4)) / 1000);
  }
  return stages;
}
