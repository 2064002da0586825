// Dark or light: as the reader's machine has it, unless the reader chose.
import { type Theme, themeOf } from './palette.ts';

const KEY = 'hostloom-theme';

class ThemeStore {
  dark = $state(true);

  constructor() {
    const system = window.matchMedia('(prefers-color-scheme: light)');
    const chosen = localStorage.getItem(KEY);
    this.set(chosen === null ? !system.matches : chosen === 'dark', false);
    system.addEventListener('change', () => {
      if (localStorage.getItem(KEY) === null) this.set(!system.matches, false);
    });
  }

  get colours(): Theme {
    return themeOf(this.dark);
  }

  toggle(): void {
    this.set(!this.dark, true);
  }

  private set(dark: boolean, keep: boolean): void {
    this.dark = dark;
    document.documentElement.dataset.theme = dark ? 'dark' : 'light';
    if (keep) localStorage.setItem(KEY, dark ? 'dark' : 'light');
  }
}

export const theme = new ThemeStore();
