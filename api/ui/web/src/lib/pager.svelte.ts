// A list that is read page by page with the server's cursors.

import { api, ApiError, type Params } from "./api";
import type { List } from "./types";

export class Pager<T> {
  items = $state.raw<T[]>([]);
  loading = $state(false);
  loaded = $state(false);
  error = $state.raw<ApiError | null>(null);
  hasnext = $state(false);
  count = $state<number | null>(null);
  /** Which page this is, from 1. */
  page = $state(1);

  private cursors: (string | null)[] = [null];
  private next: string | null = null;
  private params: Params = {};
  private turn = 0;

  constructor(
    private path: string,
    readonly limit = 50,
  ) {}

  /** Starts again at the first page, with other filters. */
  async start(params: Params = {}) {
    this.params = params;
    this.cursors = [null];
    this.page = 1;
    await this.load();
  }

  /** Reads the page that is shown again. */
  async load() {
    const turn = ++this.turn;
    this.loading = true;
    try {
      const answer = await api.get<List<T>>(this.path, {
        ...this.params,
        limit: this.limit,
        cursor: this.cursors[this.page - 1],
      });
      // An older question's answer comes too late to be shown.
      if (turn !== this.turn) return;
      this.items = answer.data;
      this.next = answer.meta?.cursor ?? null;
      this.hasnext = Boolean(answer.meta?.hasnext && this.next);
      this.count = answer.meta?.count ?? null;
      this.error = null;
      this.loaded = true;
    } catch (e) {
      if (turn !== this.turn) return;
      this.error = e instanceof ApiError ? e : new ApiError(0, "UNREADABLE", String(e));
      this.items = [];
      this.hasnext = false;
    } finally {
      if (turn === this.turn) this.loading = false;
    }
  }

  async forward() {
    if (!this.hasnext || this.loading) return;
    this.cursors[this.page] = this.next;
    this.page += 1;
    await this.load();
  }

  async back() {
    if (this.page === 1 || this.loading) return;
    this.page -= 1;
    await this.load();
  }
}
