// Before the first paint, so that a dark page does not flash white: the theme that was chosen here last.
(function () {
  let theme = null;
  try {
    theme = localStorage.getItem("nightjar.theme");
  } catch {
    // Storage may be forbidden; the system's theme it is.
  }
  if (theme !== "light" && theme !== "dark") {
    theme = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  }
  document.documentElement.dataset.theme = theme;
})();
