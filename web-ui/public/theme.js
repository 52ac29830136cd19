// Sets the colour scheme before the first paint, so that a dark page never flashes
// white. A file of its own, since the Content-Security-Policy forbids inline scripts.
// The key is the one of src/theme.ts.
(() => {
  let chosen = "auto";
  try {
    chosen = localStorage.getItem("tidegate-color-scheme") ?? "auto";
  } catch {
    // Storage is forbidden here: the system decides.
  }
  const dark =
    chosen === "dark" || (chosen !== "light" && matchMedia("(prefers-color-scheme: dark)").matches);
  document.documentElement.setAttribute("data-mantine-color-scheme", dark ? "dark" : "light");
})();
