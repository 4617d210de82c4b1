// Numbers and times for people.

import { i18n } from "./i18n.svelte";

const locale = () => (i18n.language === "zh" ? "zh-CN" : "en-GB");

/** A count with separators: 1,234,567. */
export function count(n: number | null | undefined): string {
  return n === null || n === undefined ? "–" : Math.round(n).toLocaleString(locale());
}

/** A short figure: 950, 12.4k, 3.1M. */
export function short(n: number | null | undefined): string {
  if (n === null || n === undefined) return "–";
  const a = Math.abs(n);
  if (a >= 1e9) return `${trim(n / 1e9)}G`;
  if (a >= 1e6) return `${trim(n / 1e6)}M`;
  if (a >= 1e4) return `${trim(n / 1e3)}k`;
  if (a >= 100 || Number.isInteger(n)) return Math.round(n).toLocaleString(locale());
  return trim(n);
}

function trim(n: number): string {
  const a = Math.abs(n);
  return String(Number(n.toFixed(a >= 100 ? 0 : a >= 10 ? 1 : 2)));
}

/** Bytes in binary units: 1.5 MiB. */
export function bytes(n: number | null | undefined): string {
  if (n === null || n === undefined) return "–";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let at = 0;
  let value = n;
  while (Math.abs(value) >= 1024 && at < units.length - 1) {
    value /= 1024;
    at += 1;
  }
  return `${at === 0 ? Math.round(value) : trim(value)} ${units[at]}`;
}

/** A span of seconds in its two largest units: 3 d 4 h. */
export function span(seconds: number | null | undefined): string {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return "–";
  const s = Math.max(0, Math.floor(seconds));
  const parts: [number, string][] = [
    [Math.floor(s / 86400), "d"],
    [Math.floor(s / 3600) % 24, "h"],
    [Math.floor(s / 60) % 60, "min"],
    [s % 60, "s"],
  ];
  const first = parts.findIndex(([n]) => n > 0);
  if (first < 0) return "0 s";
  return parts
    .slice(first, first + 2)
    .filter(([n]) => n > 0)
    .map(([n, unit]) => `${n} ${unit}`)
    .join(" ");
}

/** Date and time in the browser's zone, with seconds. */
export function stamp(at: string | number | null | undefined): string {
  if (at === null || at === undefined) return "–";
  const date = new Date(at);
  if (Number.isNaN(date.getTime())) return String(at);
  return date.toLocaleString(locale(), { dateStyle: "medium", timeStyle: "medium" });
}

/** The time of day with seconds. */
export function clock(at: string | number): string {
  return new Date(at).toLocaleTimeString(locale(), { hour12: false });
}

/** How long ago, or in how long: 5 minutes ago. */
export function ago(at: string | number | null | undefined, now: number): string {
  if (at === null || at === undefined) return "–";
  const seconds = (new Date(at).getTime() - now) / 1000;
  if (Number.isNaN(seconds)) return "–";
  const words = new Intl.RelativeTimeFormat(locale(), { numeric: "auto" });
  const a = Math.abs(seconds);
  if (a < 60) return words.format(Math.round(seconds), "second");
  if (a < 3600) return words.format(Math.round(seconds / 60), "minute");
  if (a < 86400) return words.format(Math.round(seconds / 3600), "hour");
  return words.format(Math.round(seconds / 86400), "day");
}

/** The protocol of a client as people say it. */
export function protocol(name: string, version: number): string {
  if (name === "MQTT-SN") return "MQTT-SN 1.2";
  return `MQTT ${{ 3: "3.1", 4: "3.1.1", 5: "5.0" }[version] ?? version}`;
}

/** The value of a setting in one line. */
export function value(v: unknown): string {
  if (v === null || v === undefined) return "–";
  return typeof v === "string" ? (v === "" ? '""' : v) : JSON.stringify(v);
}
