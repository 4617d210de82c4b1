// Places of the dashboard stand behind `#`: no server needs to know them, and any proxy path works.

class Route {
  /** Decoded parts of the path: ["clients", "a/b"] for #/clients/a%2Fb. */
  parts = $state.raw<string[]>(["overview"]);
  query = $state.raw<URLSearchParams>(new URLSearchParams());

  constructor() {
    this.read();
    addEventListener("hashchange", () => this.read());
  }

  private read() {
    const [path = "", query = ""] = location.hash.replace(/^#\/?/, "").split("?", 2);
    const parts = path.split("/").filter(Boolean).map(decode);
    this.parts = parts.length ? parts : ["overview"];
    this.query = new URLSearchParams(query);
  }

  get page() {
    return this.parts[0] ?? "overview";
  }
}

function decode(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

export const route = new Route();

/** The address of a place. */
export function href(parts: string | string[], query: Record<string, string | null | undefined> = {}): string {
  const list = typeof parts === "string" ? [parts] : parts;
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) if (value) search.set(name, value);
  const text = search.toString();
  return `#/${list.map(encodeURIComponent).join("/")}${text ? `?${text}` : ""}`;
}

export function go(parts: string | string[], query: Record<string, string | null | undefined> = {}) {
  location.hash = href(parts, query);
}

/** Changes the query of this place without a step in the history. */
export function setQuery(query: Record<string, string | null | undefined>) {
  const merged: Record<string, string | null | undefined> = Object.fromEntries(route.query);
  history.replaceState(null, "", href(route.parts, { ...merged, ...query }));
  route.query = new URLSearchParams(location.hash.split("?", 2)[1] ?? "");
}
