/** The picture with its overlays: regions, boxes and the probe. */

import { element, withVariable } from "./elements.js";
import { paintRegions } from "./region_map.js";

/** Share of a side by which an arrow key moves the probe. */
const STEP = 0.02;
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

export class Viewfinder {
  #root;
  #frame;
  #photo;
  #canvas;
  #boxes;
  #probe;
  #address = null;
  #point = { x: 0.5, y: 0.5 };
  #describe = null;
  #announce;

  /**
   * @param {HTMLElement} root
   * @param {(words: string) => void} announce Announces to screen readers.
   */
  constructor(root, announce) {
    this.#root = root;
    this.#announce = announce;
    this.#frame = root.querySelector(".frame");
    this.#photo = root.querySelector(".photo");
    this.#canvas = root.querySelector(".regions");
    this.#boxes = root.querySelector(".boxes");
    this.#probe = root.querySelector(".probe");
    this.#frame.addEventListener("pointermove", (event) => this.#follow(event));
    this.#frame.addEventListener("pointerdown", (event) => this.#follow(event));
    this.#frame.addEventListener("pointerleave", () => this.#hideProbe());
    this.#frame.addEventListener("blur", () => this.#hideProbe());
    this.#frame.addEventListener("keydown", (event) => this.#step(event));
  }

  /** @param {string} state empty, ready, running, done or failed. */
  set state(state) {
    this.#root.dataset.state = state;
  }

  /** Show an image; resolves to its size in pixels, or to null if the browser cannot show it. */
  async show(image) {
    this.clear();
    if (this.#address) URL.revokeObjectURL(this.#address);
    const address = URL.createObjectURL(image.blob);
    this.#address = address;
    this.#photo.src = address;
    this.#photo.alt = image.name;
    this.#frame.hidden = false;
    let shown = true;
    try {
      await this.#photo.decode();
    } catch {
      shown = false;
    }
    // Another image may have been taken meanwhile.
    if (this.#address !== address) return null;
    this.#root.querySelector(".unshowable").hidden = shown;
    this.#photo.hidden = !shown;
    const { naturalWidth: width, naturalHeight: height } = this.#photo;
    if (!shown) return null;
    this.shape(width, height);
    return { width, height };
  }

  /** Take the shape of an image of this size, pixels. */
  shape(width, height) {
    withVariable(this.#frame, "--ratio", width / height);
  }

  /** Remove all overlays. */
  clear() {
    this.#canvas.hidden = true;
    this.#boxes.replaceChildren();
    this.explore(null);
  }

  /** Lay regions over the picture: a `RegionMap` in `RegionColors`. */
  paint(map, colors) {
    paintRegions(this.#canvas, map, colors);
    this.#canvas.hidden = false;
  }

  /**
   * Lay boxes over the picture.
   *
   * @param {{box: number[], label: string|null, color: string, dimmed: boolean}[]} boxes x1 y1
   *     x2 y2 in pixels, the first on top.
   * @param {{width: number, height: number}} image
   */
  draw(boxes, image) {
    const drawn = boxes.map(({ box: [x1, y1, x2, y2], label, color, dimmed }) => {
      const tag = label && element("span", { class: "tag" }, label);
      const made = element("div", { class: "box", "data-dimmed": dimmed }, tag);
      made.toggleAttribute("data-at-top", y1 < 0.06 * image.height);
      made.toggleAttribute("data-at-right", x1 > 0.6 * image.width);
      withVariable(made, "--color", color);
      withVariable(made, "left", `${(100 * x1) / image.width}%`);
      withVariable(made, "top", `${(100 * y1) / image.height}%`);
      withVariable(made, "width", `${(100 * (x2 - x1)) / image.width}%`);
      withVariable(made, "height", `${(100 * (y2 - y1)) / image.height}%`);
      return made;
    });
    this.#boxes.replaceChildren(...drawn.reverse());
  }

  /**
   * Let the pointer or the arrow keys inspect the picture.
   *
   * @param {null|((x: number, y: number) => {words: string, color: string}|null)} describe
   *     Describes a point, whose coordinates are shares of the width and the height.
   */
  explore(describe) {
    this.#describe = describe;
    this.#hideProbe();
    if (describe) {
      this.#frame.tabIndex = 0;
      this.#frame.setAttribute("role", "application");
      this.#frame.setAttribute("aria-label", "Picture; the arrow keys inspect it");
    } else {
      for (const name of ["tabindex", "role", "aria-label"]) this.#frame.removeAttribute(name);
    }
  }

  #follow(event) {
    const area = this.#frame.getBoundingClientRect();
    this.#inspect((event.clientX - area.left) / area.width, (event.clientY - area.top) / area.height);
  }

  #step(event) {
    const step = ARROWS[event.key];
    if (!step || !this.#describe) return;
    event.preventDefault();
    const { x, y } = this.#point;
    this.#inspect(x + STEP * step[0], y + STEP * step[1]);
    this.#announce(this.#probe.textContent);
  }

  #inspect(x, y) {
    if (!this.#describe) return;
    this.#point = { x: within(x), y: within(y) };
    const found = this.#describe(this.#point.x, this.#point.y);
    this.#probe.hidden = found === null;
    this.#probe.textContent = found?.words ?? "";
    if (found) withVariable(this.#probe, "--color", found.color);
    withVariable(this.#probe, "left", `${100 * this.#point.x}%`);
    withVariable(this.#probe, "top", `${100 * this.#point.y}%`);
    this.#probe.toggleAttribute("data-flipped", this.#point.x > 0.6);
    this.#probe.toggleAttribute("data-lifted", this.#point.y > 0.8);
  }

  #hideProbe() {
    this.#probe.hidden = true;
  }
}

function within(share) {
  return Math.min(Math.max(share, 0), 0.9999);
}
