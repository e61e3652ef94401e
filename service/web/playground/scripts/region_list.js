/** A list of the regions over the picture; pointing at a row or pressing it highlights its region. */

import { element, withVariable } from "./elements.js";

/**
 * @param {{id: number, label: string, color: string, value: string, share?: number}[]} rows
 * @param {string} name Of the list, for screen readers.
 * @param {(id: number|null) => void} onHighlight Called with the highlighted region, or null.
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
