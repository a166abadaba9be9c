/* What scrolls inside its own box can be reached by keyboard: code, output, tables and formulas. */
(function () {
  "use strict";
  const BOXES = ".bd-article pre, .bd-article .output, .bd-article .math, .bd-article .pst-scrollable-table-container";

  function look() {
    for (const box of document.querySelectorAll(BOXES)) {
      const scrolls = /auto|scroll/.test(getComputedStyle(box).overflowX) && box.scrollWidth > box.clientWidth + 1;
      if (scrolls) box.setAttribute("tabindex", "0");
      else if (box.classList.contains("math")) box.removeAttribute("tabindex");
    }
  }

  let waits = 0;
  function soon() {
    clearTimeout(waits);
    waits = setTimeout(look, 400); // after the theme has had its turn
  }

  window.addEventListener("resize", soon);
  window.addEventListener("load", () => {
    soon();
    const typeset = window.MathJax && window.MathJax.startup && window.MathJax.startup.promise;
    if (typeset) typeset.then(soon);
  });
})();
