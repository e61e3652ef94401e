/** Makes HTML elements without markup in strings: an answer's text is never parsed as HTML. */

/**
 * @param {string} tag
 * @param {Object} properties Attributes, and listeners such as "onclick". Values that are false,
 *     null or undefined are left out.
 * @param {...(Node|string|null)} children Nulls are left out.
 */
export function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === false || value === null || value === undefined) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}

/** Set a CSS custom property; the security policy forbids style attributes, not this. */
export function withVariable(made, name, value) {
  made.style.setProperty(name, value);
  return made;
}

let count = 0;

/** Return an id that no other element has. */
export function freshId(prefix) {
  count += 1;
  return `${prefix}-${count}`;
}
