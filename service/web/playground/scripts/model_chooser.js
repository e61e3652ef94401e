/** The chooser of a task's model; hidden where there is nothing to choose. */

import { element } from "./elements.js";

export class ModelChooser {
  #box;
  #select;
  /** Chosen names by task, of those that were chosen by hand. */
  #chosen = new Map();

  /**
   * @param {HTMLElement} box Holds a label and a select.
   * @param {(name: string) => void} onChoose
   */
  constructor(box, onChoose) {
    this.#box = box;
    this.#select = box.querySelector("select");
    this.#select.addEventListener("change", () => {
      this.#chosen.set(this.#box.dataset.task, this.#select.value);
      onChoose(this.#select.value);
    });
  }

  /**
   * Offer a task's models.
   * @param {string} task
   * @param {{name: string}[]} models On each device, the task's default model first.
   */
  offer(task, models) {
    const names = [...new Set(models.map(({ name }) => name))];
    this.#box.dataset.task = task;
    this.#box.hidden = names.length < 2;
    this.#select.replaceChildren(
      ...names.map((name, place) =>
        element("option", { value: name }, place === 0 ? `${name} (default)` : name),
      ),
    );
    this.#select.value = this.chosen(task, models);
  }

  /** Return the name of a task's chosen model, or of the default one. */
  chosen(task, models) {
    const name = this.#chosen.get(task);
    return models.some((model) => model.name === name) ? name : models[0].name;
  }
}
