// Calls to the HTTP API. Paths are relative to the page, so that a proxy may put it anywhere.

import { t } from "./i18n.svelte";
import { session } from "./session.svelte";

/** An answer that is not a success: `code` is the API's word for it, `message` says what to do. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    readonly retryAfter: number | null = null,
  ) {
    super(message);
  }
}

export type Params = Record<string, string | number | boolean | null | undefined>;

/** The URL of a resource of the API, with the parameters that have a value. */
export function url(path: string, params: Params = {}): string {
  const target = new URL(`api/v1/${path}`, document.baseURI);
  target.hash = "";
  for (const [name, value] of Object.entries(params)) {
    if (value !== undefined && value !== null && value !== "") target.searchParams.set(name, String(value));
  }
  return target.href;
}

async function call(method: string, path: string, params?: Params, body?: unknown, signal?: AbortSignal): Promise<Response> {
  const headers: Record<string, string> = { accept: "application/json" };
  if (session.token) headers.authorization = `Bearer ${session.token}`;
  if (body !== undefined) headers["content-type"] = "application/json";
  let answer: Response;
  try {
    answer = await fetch(url(path, params), {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      signal,
      credentials: "omit",
      cache: "no-store",
    });
  } catch (e) {
    if (e instanceof DOMException && e.name === "AbortError") throw e;
    throw new ApiError(0, "UNREACHABLE", "");
  }
  if (answer.ok) return answer;
  let code = "HTTP";
  let message = `${answer.status} ${answer.statusText}`;
  try {
    const told = (await answer.json()) as { code?: string; message?: string };
    code = told.code ?? code;
    message = told.message ?? message;
  } catch {
    // Not from the API: a proxy's page, perhaps. The status says enough.
  }
  if (answer.status === 401 && code !== "BAD_USERNAME_OR_PWD") session.expire();
  const wait = Number(answer.headers.get("retry-after"));
  throw new ApiError(answer.status, code, message, Number.isFinite(wait) && wait > 0 ? wait : null);
}

async function read<T>(answer: Response): Promise<T> {
  if (answer.status === 204) return undefined as T;
  const text = await answer.text();
  return (text === "" ? undefined : JSON.parse(text)) as T;
}

/** A verb of `nightjar ctl`, for administrators: its rows and its result. */
async function ctl<T>(verb: string, args: Record<string, unknown> = {}): Promise<{ rows: T[]; end: unknown }> {
  const text = await (await call("POST", "ctl", {}, { verb, args })).text();
  const rows: T[] = [];
  for (const line of text.split("\n").filter(Boolean)) {
    const said = JSON.parse(line) as { row?: T; end?: unknown; error?: { code: string; message: string } };
    if (said.error) throw new ApiError(400, said.error.code.toUpperCase(), said.error.message);
    if ("row" in said) rows.push(said.row as T);
    if ("end" in said) return { rows, end: said.end };
  }
  throw new ApiError(502, "UNREADABLE", t("error.unreachable"));
}

export const api = {
  ctl,
  get: async <T>(path: string, params?: Params, signal?: AbortSignal) => read<T>(await call("GET", path, params, undefined, signal)),
  post: async <T>(path: string, body?: unknown) => read<T>(await call("POST", path, {}, body)),
  put: async <T>(path: string, body?: unknown) => read<T>(await call("PUT", path, {}, body)),
  del: async (path: string) => read<void>(await call("DELETE", path)),
  blob: async (path: string) => (await call("GET", path)).blob(),
};

/** One segment of a path: a client id or a topic may hold anything. */
export const seg = encodeURIComponent;
