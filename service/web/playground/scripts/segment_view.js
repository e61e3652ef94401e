/** Shows a label map over the picture, with its legend. */

import { element } from "./elements.js";
import { RegionColors, RegionMap } from "./region_map.js";
import { regionList } from "./region_list.js";
import { decodeRunLengths } from "./run_lengths.js";
import { slider } from "./slider.js";
import { list, percent } from "./words.js";

/** Factor on the opacity of all other classes while one is highlighted. */
const DIMMED = 0.12;
/** A class that covers nothing: the picture shows through, unless it is highlighted. */
const BACKGROUND = "background";
const SUMMARIZED = 3;

export class SegmentView {
  doing = "Segmenting";
  #viewfinder;
  #opacity = 0.5;
  #maps = new WeakMap();

  constructor(viewfinder) {
    this.#viewfinder = viewfinder;
  }

  query() {
    // Run lengths rather than a PNG: classes may share a colour, and a canvas has only colours.
    return { mask: "rle" };
  }

  summary({ classes }) {
    const largest = classes.slice(0, SUMMARIZED).map((each) => `${each.label} ${percent(each.fraction)}`);
    const rest = classes.length - largest.length;
    return `${list(rest > 0 ? [...largest, `${rest} more`] : largest)}.`;
  }

  show(answer) {
    const map = this.#mapOf(answer);
    const byId = new Map(answer.classes.map((each) => [each.class_id, each]));
    let highlighted = null;
    const paint = () => {
      const colors = new RegionColors();
      for (const { class_id: id, color, label } of answer.classes) {
        if (label === BACKGROUND && highlighted !== id) continue;
        const dimmed = highlighted !== null && highlighted !== id;
        colors.set(id, color, this.#opacity * (dimmed ? DIMMED : 1));
      }
      this.#viewfinder.paint(map, colors);
    };
    paint();
    this.#viewfinder.explore((x, y) => {
      const id = map.at(Math.floor(y * map.height), Math.floor(x * map.width));
      const { label, color } = byId.get(id);
      return { words: label, color };
    });
    const opacity = slider(
      { label: "Opacity", min: 0, max: 1, step: 0.01, value: this.#opacity },
      (value) => `${Math.round(100 * value)} %`,
      (value) => {
        this.#opacity = value;
        paint();
      },
    );
    const rows = answer.classes.map(({ class_id: id, label, color, fraction }) => ({
      id,
      label,
      color,
      value: percent(fraction),
      share: fraction,
    }));
    const legend = regionList(rows, "Classes, the largest first", (id) => {
      highlighted = id;
      paint();
    });
    return element("div", { class: "stack" }, opacity, legend);
  }

  #mapOf(answer) {
    let map = this.#maps.get(answer);
    if (!map) {
      map = new RegionMap(answer.image.height, answer.image.width);
      for (const { class_id: id, counts } of answer.mask.data) map.fill(decodeRunLengths(counts), id);
      this.#maps.set(answer, map);
    }
    return map;
  }
}
