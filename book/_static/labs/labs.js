/* Puts each lab of the page in its still figure's place. Without this script the figure stays. */
(function () {
  "use strict";
  function start() {
    for (const lab of document.querySelectorAll(".lab[data-lab]")) {
      const make = (window.bookLabs || {})[lab.dataset.lab];
      if (!make || typeof d3 === "undefined") continue;
      const data = lab.querySelector("script.lab-data");
      make(lab, data ? JSON.parse(data.textContent) : {});
      lab.classList.add("lab-live");
    }
  }
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
