"use strict";
// The reader's choice of light or dark, kept where the browser allows it; without one the system's rules.
(() => {
  const read = () => { try { return localStorage.getItem("theme"); } catch { return null; } };
  const isDark = () => (document.documentElement.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  if (read()) document.documentElement.dataset.theme = read();
  document.querySelectorAll(".theme").forEach((button) => button.addEventListener("click", () => {
    const next = isDark() ? "light" : "dark";
    document.documentElement.dataset.theme = next;
    try { localStorage.setItem("theme", next); } catch { /* a page without storage forgets the choice */ }
    window.dispatchEvent(new Event("themechange"));
  }));
})();
