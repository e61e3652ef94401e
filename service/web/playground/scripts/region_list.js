/** A list of what lies over the picture. A row that is pointed at, or pressed, stands out there. */

import { element, withVariable } from "./elements.js";

/**
 * @param {{id: number, label: string, color: string, value: string, share?: number}[]} rows
 * @param {string} name What the list is, for screen readers.
 * @param {(id: number|null) => void} onHighlight Told what stands out; null for nothing.
 */
export function regionList(rows, name, onHighlight) {
  let pressed = null;
  const buttons = rows.map(({ id, label, color, value, share }) => {
    const button = element(
      "button",
      { type: "button", class: "region", "aria-pressed": "false" },
      withVariable(element("span", { class: "swatch" }), "--color", color),
      element("span", { class: "region-label" }, label),
      element("span", { class: "number" }, value),
    );
    if (share !== undefined) withVariable(button, "--share", share);
    button.addEventListener("pointerenter", () => onHighlight(id));
    button.addEventListener("pointerleave", () => onHighlight(pressed));
    button.addEventListener("click", () => {
      pressed = pressed === id ? null : id;
      buttons.forEach((other, index) =>
        other.setAttribute("aria-pressed", rows[index].id === pressed),
      );
      onHighlight(pressed);
    });
    return button;
  });
  const items = buttons.map((button) => element("li", {}, button));
  return element("ul", { class: "regions-list", "aria-label": name }, ...items);
}
