/** Tells of errors that nothing in the page foresaw. A plain script: modules may be what fails. */

(() => {
  function tell(error) {
    const panel = document.querySelector("#panel");
    const said = [
      ["h3", "This page failed"],
      ["p", "Something unforeseen went wrong in this page, or this browser is too old for it. Reload it, or use the API."],
      ["p", String(error)],
    ].map(([tag, words]) => Object.assign(document.createElement(tag), { textContent: words }));
    const problem = Object.assign(document.createElement("div"), { className: "problem" });
    problem.setAttribute("role", "alert");
    problem.append(...said);
    panel.prepend(problem);
  }
  window.addEventListener("error", ({ error, message }) => tell(error || message));
  window.addEventListener("unhandledrejection", ({ reason }) => tell(reason));
})();
