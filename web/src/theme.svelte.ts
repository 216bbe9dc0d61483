/** Light, dark or as the system says; remembered on this machine. */

export type Theme = "auto" | "light" | "dark";

const PLACE = "chiasm-theme";

function remembered(): Theme {
  const value = localStorage.getItem(PLACE);
  return value === "light" || value === "dark" ? value : "auto";
}

class Appearance {
  value = $state<Theme>(remembered());

  use(theme: Theme): void {
    this.value = theme;
    if (theme === "auto") localStorage.removeItem(PLACE);
    else localStorage.setItem(PLACE, theme);
    this.apply();
  }

  apply(): void {
    if (this.value === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = this.value;
  }
}

export const appearance = new Appearance();
