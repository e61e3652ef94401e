/** Shows boxes and masks over the picture, from a minimum score on. */

import { element } from "./elements.js";
import { RegionColors, RegionMap } from "./region_map.js";
import { regionList } from "./region_list.js";
import { decodeRunLengths } from "./run_lengths.js";
import { slider } from "./slider.js";
import { count, list, percent } from "./words.js";

/** Objects next to each other in rank, and likely in place, get colours far apart. */
const COLORS = [
  "#3ddc84", "#ffb020", "#4aa8ff", "#ff6b6b", "#c77dff", "#00d5d5", "#ff7ac6", "#a3d900",
];
const OPACITY = 0.45;
const DIMMED = 0.12;
/** The network's own threshold. */
const MIN_SCORE = 0.05;
const SUMMARIZED = 3;
/** Most boxes with a name: more names would hide one another; the list has all. */
const NAMED = 12;

export class DetectView {
  doing = "Detecting";
  #viewfinder;
  #threshold = 0.5;
  #masks = true;
  #runs = new WeakMap();

  constructor(viewfinder) {
    this.#viewfinder = viewfinder;
  }

  query() {
    return { score_threshold: MIN_SCORE };
  }

  summary({ detections }) {
    const shown = this.#above(detections);
    const best = shown.slice(0, SUMMARIZED).map(({ label, score }) => `${label} ${percent(score)}`);
    const found = count(shown.length, "object");
    return shown.length ? `${found}; the best: ${list(best)}.` : `${found}.`;
  }

  show(answer) {
    const below = element("div", { class: "stack" });
    const show = () => below.replaceChildren(...this.#lay(answer));
    const threshold = slider(
      { label: "Minimum score", min: MIN_SCORE, max: 1, step: 0.01, value: this.#threshold },
      (value) => `${Math.round(100 * value)} %`,
      (value) => {
        this.#threshold = value;
        show();
      },
    );
    const masks = element("input", { type: "checkbox", checked: this.#masks });
    masks.addEventListener("change", () => {
      this.#masks = masks.checked;
      show();
    });
    show();
    const choice = element("label", { class: "choice" }, masks, "Masks");
    return element("div", { class: "stack" }, threshold, choice, below);
  }

  #above(detections) {
    return detections.filter(({ score }) => score >= this.#threshold);
  }

  /** Lay the detections above the minimum score over the picture; return their list. */
  #lay(answer) {
    const { detections, image } = answer;
    const shown = this.#above(detections);
    const things = shown.map(({ label, score, box }, rank) => ({
      id: rank + 1,
      label,
      color: COLORS[rank % COLORS.length],
      value: percent(score),
      box,
    }));
    const map = this.#mapOf(answer, shown);
    const draw = (highlighted) => {
      const colors = new RegionColors();
      const boxes = things.map(({ id, label, color, value, box }) => {
        const dimmed = highlighted !== null && highlighted !== id;
        if (this.#masks) colors.set(id, color, OPACITY * (dimmed ? DIMMED : 1));
        const named = highlighted === null ? id <= NAMED : id === highlighted;
        return { box, color, dimmed, label: named ? `${label} ${value}` : null };
      });
      this.#viewfinder.paint(map, colors);
      this.#viewfinder.draw(boxes, image);
    };
    draw(null);
    this.#viewfinder.explore((x, y) => {
      const thing = things[map.at(Math.floor(y * map.height), Math.floor(x * map.width)) - 1];
      return thing ? { words: `${thing.label} ${thing.value}`, color: thing.color } : null;
    });
    const tally = element("p", { class: "fine" }, this.#tally(detections, shown.length));
    return [tally, regionList(things, "Detections, the best first", draw)];
  }

  #tally(detections, shown) {
    if (!detections.length) return "Nothing was found.";
    if (shown) return `${shown} of ${count(detections.length, "detection")}`;
    return `None of ${count(detections.length, "detection")} has this score; the best has ${percent(detections[0].score)}.`;
  }

  #mapOf({ detections, image }, shown) {
    const map = new RegionMap(image.height, image.width);
    // The best last, on top of the others.
    for (let rank = shown.length - 1; rank >= 0; rank -= 1) {
      if (!this.#runs.has(shown[rank])) {
        this.#runs.set(shown[rank], decodeRunLengths(shown[rank].mask.counts));
      }
      map.fill(this.#runs.get(shown[rank]), rank + 1);
    }
    return map;
  }
}
