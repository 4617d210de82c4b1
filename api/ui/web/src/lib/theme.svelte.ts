// Light or dark. public/theme.js sets it before the first paint; here it is changed.

const STORE = "nightjar.theme";

class Theme {
  dark = $state(document.documentElement.dataset.theme === "dark");

  toggle() {
    this.dark = !this.dark;
    const name = this.dark ? "dark" : "light";
    document.documentElement.dataset.theme = name;
    try {
      localStorage.setItem(STORE, name);
    } catch {
      // Storage may be forbidden: the choice then lasts as long as the page.
    }
  }
}

export const theme = new Theme();

/** A colour of the theme in force; charts draw on a canvas, which knows no CSS variables. */
export function colour(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}
