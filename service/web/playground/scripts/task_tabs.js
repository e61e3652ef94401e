/** The tabs of the served tasks: arrow keys move between them, Enter or Space chooses. */

import { element } from "./elements.js";

const NAMES = { classify: "Classify", segment: "Segment", detect: "Detect" };
const MOVES = { ArrowLeft: -1, ArrowRight: 1 };

export class TaskTabs {
  #list;
  #panel;
  #tabs = new Map();

  /**
   * @param {HTMLElement} list
   * @param {HTMLElement} panel Shows the content of the selected tab.
   */
  constructor(list, panel) {
    this.#list = list;
    this.#panel = panel;
    list.addEventListener("keydown", (event) => this.#move(event));
  }

  /** Show a tab for each task; those of tasks that are not served tell how to serve them. */
  offer(tasks, served, onSelect) {
    this.#tabs = new Map(
      tasks.map((task) => [
        task,
        element(
          "button",
          {
            type: "button",
            role: "tab",
            id: `tab-${task}`,
            "aria-controls": this.#panel.id,
            "data-off": !served.includes(task),
            onclick: () => onSelect(task),
          },
          NAMES[task] ?? task,
        ),
      ]),
    );
    this.#list.replaceChildren(...this.#tabs.values());
    this.#panel.setAttribute("role", "tabpanel");
  }

  /** Mark the task that is shown. */
  select(task) {
    for (const [name, tab] of this.#tabs) {
      tab.setAttribute("aria-selected", name === task);
      tab.tabIndex = name === task ? 0 : -1;
    }
    this.#panel.setAttribute("aria-labelledby", `tab-${task}`);
  }

  #move(event) {
    const tabs = [...this.#tabs.values()];
    const place = tabs.indexOf(document.activeElement);
    let next = place + (MOVES[event.key] ?? 0);
    if (event.key === "Home") next = 0;
    if (event.key === "End") next = tabs.length - 1;
    if (place < 0 || next === place) return;
    event.preventDefault();
    tabs[(next + tabs.length) % tabs.length].focus();
  }
}
