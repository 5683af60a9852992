// Light, dark, or as the system has it.
//
// Rule 1: a classic script in the head, so that the page never shows in the wrong light first.

(() => {
  const KEY = "runcast.theme";
  const THEMES = ["system", "light", "dark"];
  const root = document.documentElement;

  /** @param {string} theme */
  const show = (theme) => {
    if (theme === "system") delete root.dataset["theme"];
    else root.dataset["theme"] = theme;
  };

  const stored = localStorage.getItem(KEY) ?? "system";
  let theme = THEMES.includes(stored) ? stored : "system";
  show(theme);

  document.addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme");
    if (!button) return;
    const label = () => {
      const text = `Theme: ${theme}`;
      button.setAttribute("aria-label", text);
      button.title = text;
      button.dataset["shows"] = theme;
    };
    label();
    button.addEventListener("click", () => {
      theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length] ?? "system";
      localStorage.setItem(KEY, theme);
      show(theme);
      label();
    });
  });
})();
