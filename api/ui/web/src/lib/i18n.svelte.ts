// Two languages. English is in the first file; Chinese is loaded when it is chosen.

import en from "../i18n/en.json";

export type Key = keyof typeof en;
export type Language = "en" | "zh";
type Strings = Record<Key, string>;

const STORE = "nightjar.language";

function wanted(): Language {
  try {
    const kept = localStorage.getItem(STORE);
    if (kept === "en" || kept === "zh") return kept;
  } catch {
    // Storage may be forbidden; the browser's language it is.
  }
  return navigator.language.toLowerCase().startsWith("zh") ? "zh" : "en";
}

class I18n {
  language = $state<Language>("en");
  strings = $state.raw<Strings>(en);

  /** Loads the language that was chosen before, or that the browser prefers. */
  async start() {
    await this.choose(wanted(), false);
  }

  async choose(language: Language, keep = true) {
    const strings: Strings = language === "zh" ? (await import("../i18n/zh.json")).default : en;
    this.strings = strings;
    this.language = language;
    document.documentElement.lang = language;
    if (keep) {
      try {
        localStorage.setItem(STORE, language);
      } catch {
        // As above.
      }
    }
  }
}

export const i18n = new I18n();

/** The string of a key in the language of the page, with {name} replaced. */
export function t(key: Key, values: Record<string, string | number> = {}): string {
  return i18n.strings[key].replace(/\{(\w+)\}/g, (whole, name: string) => String(values[name] ?? whole));
}

/** The string of a key that the server gives part of, or the server's own word. */
export function word(prefix: string, name: string): string {
  const key = `${prefix}.${name}`;
  return (i18n.strings as Record<string, string>)[key] ?? name.replaceAll("_", " ");
}
